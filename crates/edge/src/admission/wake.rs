//! Wakes machines: one call to the host per machine, for however many requests.

use crate::admission::machine::{Machine, PendingWake};
use crate::shared::Shared;
use crate::table::target::Target;
use host_api::{CallContext, WakeRefused};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::sync::watch;

/// A start that has not ended by then is given up; what a request waits is
/// normally shorter.
const WAKE_DEADLINE: Duration = Duration::from_secs(300);
/// Repetitions of one wake because the machine was stopped on its way up.
const REPEATS: usize = 16;

/// Wakes a machine, or joins the wake under way.
pub(crate) fn wake(shared: &Arc<Shared>, target: &Target) -> PendingWake {
    let machine = &target.machine;
    machine.wake_or_join(target.version, || {
        let (done, pending) = watch::channel(None);
        shared.metrics.wakes.inc();
        shared.spawn(run_wake(shared.clone(), machine.clone(), done));
        pending
    })
}

type Done = watch::Sender<Option<Result<(), WakeRefused>>>;

async fn run_wake(shared: Arc<Shared>, machine: Arc<Machine>, done: Done) {
    let began = tokio::time::Instant::now();
    let mut answer = Ok(());
    for _ in 0..REPEATS {
        let stops = machine.stop_count();
        answer = call_host(&machine).await;
        // It did not fail: it was stopped on its way up, and is still wanted.
        let failed = matches!(answer, Err(WakeRefused::Failed(_)));
        let stopped = failed && machine.stop_count() != stops;
        if !stopped || machine.app.waiting.load(SeqCst) == 0 {
            break;
        }
    }
    shared.metrics.record_wake_stage("host_call", began.elapsed());
    if let Err(why) = &answer {
        tracing::info!(machine = %machine.id, app = &*machine.app.name, ?why, "wake refused");
    }
    machine.record_wake_done();
    done.send_replace(Some(answer));
    machine.app.changed.notify_waiters();
}

async fn call_host(machine: &Machine) -> Result<(), WakeRefused> {
    // Not before a stop that was begun has been recorded: the host would answer
    // "it runs" and stop it afterwards.
    let _lifecycle = machine.lifecycle_lock.lock().await;
    let context = CallContext::edge(WAKE_DEADLINE).at(machine.ownership);
    let answer = machine.host.api.load.wake(context, machine.id).await;
    if answer.is_ok() && machine.is_draining() {
        // It has been down and up again, even if the table never showed it.
        machine.invalidate_connections();
        machine.end_drain();
    }
    answer
}
