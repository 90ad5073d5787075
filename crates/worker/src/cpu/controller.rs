//! Holds machines with shared vCPUs to their baseline, with bursts.
//!
//! Measured every [`EVERY`]; between two measurements the kernel enforces the quota that
//! follows from the balance. A boot, a stop and a suspend run without one: they take CPU time
//! in a burst that is not the app's doing, and a quota makes them many times longer.

use super::table::CpuUse;
use crate::context::HostContext;
use crate::machine::view::View;
use crate::ports::{CpuTimes, Hypervisor, PortError};
use model::id::{BootId, MachineId};
use model::life::State;
use model::size::CpuKind;
use model::size::cpu_credit::CpuCredit;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

/// Time between two measurements.
const EVERY: Duration = Duration::from_secs(1);
/// Time from the start of a machine in which its use does not count.
const GRACE: Duration = Duration::from_secs(10);

/// A machine that is started.
#[derive(Clone, Copy, Debug)]
struct Started {
    boot: BootId,
    vcpus: u32,
}

/// The state of a machine that is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    boot: BootId,
    since: Instant,
    credit: CpuCredit,
    /// The last measurement.
    seen: Option<(Instant, CpuTimes)>,
    /// The quota that the VM has, if that is known; `Some(None)` is none.
    quota: Option<Option<Duration>>,
}

type Machines = BTreeMap<MachineId, Known>;

/// Returns all machines of the host as they are now.
pub(crate) type Views = Box<dyn Fn() -> Vec<Arc<View>> + Send + Sync>;

/// Starts the controller, or lifts what one of an earlier daemon has left.
pub(crate) fn start(host: &Arc<HostContext>, views: Views) {
    if host.config.cpu_baseline {
        host.tasks.spawn_service("the CPU baseline", run(host.clone(), views));
    } else {
        host.tasks.spawn_until_stop(lift_all(host.clone(), views));
    }
}

async fn run(host: Arc<HostContext>, views: Views) {
    let mut machines = Machines::new();
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let started = started(&views());
        let hypervisor = host.hypervisor.clone();
        let now = Instant::now();
        // Reads and writes files of the kernel.
        let turn = tokio::task::spawn_blocking(move || {
            pass(&*hypervisor, &started, &mut machines, now);
            machines
        });
        machines = turn.await.unwrap_or_default();
        host.cpu.replace(shown(&machines));
    }
}

/// Lifts the quotas that an earlier daemon with other settings has set.
async fn lift_all(host: Arc<HostContext>, views: Views) {
    let started = started(&views());
    let hypervisor = host.hypervisor.clone();
    let lift = move || {
        for (machine, Started { boot, .. }) in started {
            report(machine, hypervisor.limit_cpu(machine, boot, None));
        }
    };
    if let Err(err) = tokio::task::spawn_blocking(lift).await {
        tracing::warn!(error = %err, "lift the CPU quotas of machines");
    }
}

/// The machines with shared vCPUs that are started.
fn started(views: &[Arc<View>]) -> BTreeMap<MachineId, Started> {
    let own = views.iter().map(|view| &view.record).filter(|record| {
        record.state == State::Started
            && record.given_up.is_none()
            && record.cpu_kind() == CpuKind::Shared
    });
    own.filter_map(|record| {
        Some((record.id, Started { boot: record.boot?, vcpus: record.vcpus() }))
    })
    .collect()
}

/// One turn: measures each machine and sets its quota.
fn pass(
    hypervisor: &dyn Hypervisor,
    started: &BTreeMap<MachineId, Started>,
    machines: &mut Machines,
    now: Instant,
) {
    // A VM that stops or is saved takes what it needs. It may have ended by now.
    machines.retain(|id, known| {
        let stays = started.get(id).is_some_and(|started| started.boot == known.boot);
        if !stays && known.quota.is_none_or(|quota| quota.is_some()) {
            let _ = hypervisor.limit_cpu(*id, known.boot, None);
        }
        stays
    });
    for (&id, &Started { boot, vcpus }) in started {
        let known = machines.entry(id).or_insert_with(|| Known {
            boot,
            since: now,
            credit: CpuCredit::new(vcpus),
            seen: None,
            quota: None,
        });
        let times = hypervisor.cpu_times(id, boot);
        let next = advance(*known, times, now);
        if next.quota != known.quota
            && let Some(quota) = next.quota
        {
            report(id, hypervisor.limit_cpu(id, boot, quota));
        }
        *known = next;
    }
}

/// What follows from a measurement; `None` is one that failed.
fn advance(known: Known, times: Option<CpuTimes>, now: Instant) -> Known {
    // An earlier daemon may have left a quota; within the grace there is none.
    if now.duration_since(known.since) < GRACE {
        return Known { quota: Some(None), ..known };
    }
    let Some(times) = times else { return known };
    let credit = match known.seen {
        Some((at, before)) => {
            let used = times.used.saturating_sub(before.used);
            known.credit.after(now.duration_since(at), used)
        }
        None => known.credit,
    };
    Known { credit, seen: Some((now, times)), quota: Some(credit.quota(EVERY)), ..known }
}

fn shown(machines: &Machines) -> BTreeMap<MachineId, CpuUse> {
    let shown = machines.iter().filter_map(|(&id, known)| {
        let (_, times) = known.seen?;
        let throttled = times.throttled;
        Some((id, CpuUse { boot: known.boot, credit: known.credit, throttled }))
    });
    shown.collect()
}

/// A quota that cannot be set leaves the machine with the one before.
fn report(machine: MachineId, set: Result<(), PortError>) {
    if let Err(err) = set {
        tracing::debug!(%machine, error = rt::chain(&err), "set the CPU quota of a machine");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(used_ms: u64) -> Option<CpuTimes> {
        Some(CpuTimes { used: Duration::from_millis(used_ms), throttled: Duration::ZERO })
    }

    #[test]
    fn a_machine_is_held_back_once_its_balance_is_used_and_not_while_it_boots() {
        let begin = Instant::now();
        let mut known = Known {
            boot: BootId::new(1, 1),
            since: begin,
            credit: CpuCredit::new(1),
            seen: None,
            quota: None,
        };
        let mut quotas = Vec::new();
        // It uses a whole core all the time.
        for second in 0..18u64 {
            let now = begin + Duration::from_secs(second);
            known = advance(known, times(second * 1000), now);
            let quota = known.quota.expect("it is decided");
            quotas.push(quota.map_or("-".to_owned(), |quota| quota.as_millis().to_string()));
        }
        // Ten seconds of grace, five of balance, and the rest of it.
        assert_eq!(quotas.join(" "), "- - - - - - - - - - - - - - - 29 5 5");
        assert_eq!(known.credit.balance(), Duration::ZERO);
        // A measurement that fails changes nothing.
        assert_eq!(advance(known, None, begin + Duration::from_secs(60)), known);
        // Idle: a second earns 62.5 ms.
        let idle = advance(known, times(17_000), begin + Duration::from_secs(18));
        assert_eq!(idle.credit.balance(), Duration::from_micros(62_500));
    }
}
