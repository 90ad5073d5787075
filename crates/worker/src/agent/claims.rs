//! Validation of what a guest reports: everything is bounded before it reaches the
//! rest of the host.

use super::reports::{Ports, UnitStates};
use guest_protocol::{Listener, Phase, UnitStatus};
use tokio::sync::watch;
use wire::machines::{ListenSocket, Process};

/// Processes in one list.
const MAX_PROCESSES: usize = 4096;
/// Ports that listen.
const MAX_PORTS: usize = 1024;
/// Bytes of an error message.
const MAX_TEXT: usize = 2000;
/// Stages that a guest may report: their names become labels of metrics.
const STAGES: [&str; 16] = [
    "modules", "port", "drivers", "ready", "config", "identity", "disks", "layers", "root",
    "files", "nic", "network", "swap", "user", "mounts", "exec",
];
/// The name that inits of release 0.1 give to the stage `config`.
const CONFIG_STAGE_0_1: &str = "orders";
/// No stage of a start takes longer; what JSON cannot write is left out too.
const MAX_STAGE_MS: f64 = 3_600_000.0;

/// Records that a port began or ceased to listen.
pub(super) fn record_port(ports: &watch::Sender<Ports>, listener: Listener, began: bool) {
    ports.send_if_modified(|ports| match began && listener.reachable {
        true => ports.len() < MAX_PORTS && ports.insert(listener.port),
        false => !began && listener.reachable && ports.remove(&listener.port),
    });
}

/// Records what one of `count` units does.
pub(super) fn record_unit(states: &watch::Sender<UnitStates>, count: usize, status: UnitStatus) {
    let UnitStatus { unit, state, .. } = status;
    states.send_if_modified(|states| {
        usize::from(unit) < count && states.insert(unit, state) != Some(state)
    });
}

/// The stages that are plausible.
pub(super) fn stages(mut stages: Vec<(String, f64)>) -> Vec<(String, f64)> {
    stages.truncate(STAGES.len());
    for (name, _) in &mut stages {
        if name == CONFIG_STAGE_0_1 {
            "config".clone_into(name);
        }
    }
    let known = |name: &str| STAGES.contains(&name);
    stages.retain(|(name, ms)| known(name) && (0.0..MAX_STAGE_MS).contains(ms));
    stages
}

/// An error message, cut where it is too long.
pub(super) fn text(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}

/// A phase with its message cut.
pub(super) fn phase(phase: Phase) -> Phase {
    match phase {
        Phase::Failed(why) => Phase::Failed(text(why)),
        other => other,
    }
}

/// Processes as the API shows them.
pub(super) fn processes(mut list: Vec<guest_protocol::Process>) -> Vec<Process> {
    list.truncate(MAX_PROCESSES);
    list.into_iter().map(process).collect()
}

fn process(found: guest_protocol::Process) -> Process {
    let sockets = found.listen_sockets.into_iter();
    Process {
        pid: found.pid,
        stime: found.stime,
        rtime: found.rtime,
        command: found.command,
        directory: found.directory,
        cpu: found.cpu,
        rss: found.rss,
        listen_sockets: sockets
            .map(|socket| ListenSocket { proto: socket.proto, address: socket.address })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plausible_stages_are_taken() {
        let reported = [("port", 1.0), ("evil", 1.0), ("exec", f64::NAN), ("root", f64::INFINITY)];
        let reported: Vec<_> = reported.map(|(name, ms)| (name.to_owned(), ms)).into();
        assert_eq!(stages(reported), [("port".to_owned(), 1.0)]);
        assert!(stages(vec![("port".into(), 1.0); 1000]).len() <= STAGES.len());
    }

    #[test]
    fn the_config_stage_of_earlier_inits_gets_its_present_name() {
        let reported = vec![("orders".to_owned(), 1.0), ("identity".to_owned(), 2.0)];
        assert_eq!(stages(reported), [("config".to_owned(), 1.0), ("identity".to_owned(), 2.0)]);
    }

    #[test]
    fn only_units_of_the_config_have_states() {
        use guest_protocol::UnitState::{Started, Stopped};
        let (states, mut changed) = watch::channel(UnitStates::new());
        for (unit, state) in [(0, Started), (0, Started), (1, Stopped), (2, Started)] {
            record_unit(&states, 2, UnitStatus { unit, state, exit: None });
        }
        assert_eq!(*changed.borrow_and_update(), [(0, Started), (1, Stopped)].into());
        record_unit(&states, 2, UnitStatus { unit: 1, state: Stopped, exit: None });
        assert!(!changed.has_changed().unwrap(), "a repeated state is no change");
    }

    #[test]
    fn ports_are_bounded_and_only_reachable_ones_count() {
        let (ports, _) = watch::channel(Ports::new());
        for port in 1..=u16::MAX {
            record_port(&ports, Listener { port, reachable: port % 2 == 0 }, true);
        }
        assert_eq!(ports.borrow().len(), MAX_PORTS);
        assert!(ports.borrow().iter().all(|port| port % 2 == 0));
    }
}
