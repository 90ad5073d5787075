//! The processes or containers of a machine that has several: their names, and what they
//! do, as logs and API show them.

use crate::agent::UnitStates;
use crate::logs::Meta;
use guest_protocol::{UnitId, UnitState};
use std::collections::BTreeMap;
use std::sync::Arc;
use wire::machines::{Container, ContainerStatus, MachineConfig, MachineProcess};

/// The containers of a config.
pub(crate) fn containers(config: &MachineConfig) -> &[Container] {
    config.containers.as_deref().unwrap_or_default()
}

/// The processes of a config that are run beside each other; one is the main process.
pub(crate) fn processes(config: &MachineConfig) -> &[MachineProcess] {
    let processes = config.processes.as_deref().unwrap_or_default();
    let several = processes.len() > 1 && containers(config).is_empty();
    if several { processes } else { &[] }
}

/// Where a command runs that names no container: in the first one, if there are any.
pub(crate) fn first(config: &MachineConfig) -> Option<UnitId> {
    (!containers(config).is_empty()).then_some(0)
}

/// The reference of a container's own image, if it has one.
pub(crate) fn image_of(container: &Container) -> Option<&str> {
    container.image.as_deref().filter(|image| !image.is_empty())
}

/// What log lines of each carry, in the order of the guest's units.
pub(crate) fn metas(config: &MachineConfig) -> Vec<Meta> {
    let meta = |key: &str, name: &str| {
        let entry = (!name.is_empty()).then(|| (key.to_owned(), name.to_owned()));
        Arc::new(entry.into_iter().collect::<BTreeMap<_, _>>())
    };
    let containers = containers(config).iter().map(|container| meta("container", &container.name));
    let processes = processes(config).iter();
    let processes =
        processes.map(|process| meta("process", process.name.as_deref().unwrap_or_default()));
    containers.chain(processes).collect()
}

/// What the containers do; those of a machine that is down are stopped.
pub(crate) fn statuses(config: &MachineConfig, states: &UnitStates) -> Vec<ContainerStatus> {
    let state = |unit: u16| states.get(&unit).copied().unwrap_or(UnitState::Stopped);
    let status = |(unit, container): (u16, &Container)| ContainerStatus {
        name: container.name.clone(),
        state: word(state(unit)).into(),
    };
    (0..).zip(containers(config)).map(status).collect()
}

fn word(state: UnitState) -> &'static str {
    match state {
        UnitState::Waiting => "waiting",
        UnitState::Started => "started",
        UnitState::Healthy => "healthy",
        UnitState::Unhealthy => "unhealthy",
        UnitState::Restarting => "restarting",
        UnitState::Stopped => "stopped",
        UnitState::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_carry_the_name_and_one_process_is_no_unit() {
        let names = |config: serde_json::Value| {
            let config: MachineConfig = serde_json::from_value(config).unwrap();
            metas(&config).iter().map(|meta| format!("{meta:?}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(json!({ "processes": [{ "name": "web" }] })), "");
        let several = json!({ "processes": [{ "name": "web" }, {}] });
        assert_eq!(names(several), r#"{"process": "web"} {}"#);
        let containers = json!({ "containers": [{ "name": "a" }], "processes": [{}, {}] });
        assert_eq!(names(containers), r#"{"container": "a"}"#);
    }

    #[test]
    fn a_container_of_which_nothing_is_known_is_stopped() {
        let config = json!({ "containers": [{ "name": "a" }, { "name": "b" }] });
        let config: MachineConfig = serde_json::from_value(config).unwrap();
        let states = [(1, UnitState::Healthy)].into();
        let shown: Vec<_> = statuses(&config, &states).into_iter().map(|s| s.state).collect();
        assert_eq!(shown, ["stopped", "healthy"]);
    }
}
