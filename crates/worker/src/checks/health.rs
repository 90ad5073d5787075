//! How a change of status reaches the machine's task.

use super::spec::CheckSpec;
use host_api::{HealthStatus, ServiceHealth};
use model::check::{PortHealth, Purpose, Status, port_health};
use model::id::BootId;

/// A check of a machine that runs has changed its status.
#[derive(Clone, Debug)]
pub(crate) struct HealthChange {
    /// The run of its VM that the check saw.
    pub(crate) boot: BootId,
    pub(crate) name: String,
    pub(crate) purpose: Purpose,
    pub(crate) port: Option<u16>,
    pub(crate) from: Status,
    pub(crate) to: Status,
    /// What the run saw that made the change.
    pub(crate) output: String,
    /// Health of all covered ports as of now.
    pub(crate) health: Vec<ServiceHealth>,
}

impl HealthChange {
    /// The machine is to be restarted.
    pub(crate) fn fails_liveness(&self) -> bool {
        self.purpose == Purpose::Liveness && self.to == Status::Critical
    }

    /// The first verdict after a start, and a good one.
    pub(crate) fn is_first_pass(&self) -> bool {
        (self.from, self.to) == (Status::Warning, Status::Passing)
    }
}

/// Health of `ports`, from the checks that cover them.
pub(crate) fn health_of(ports: &[u16], checks: &[(&CheckSpec, Status)]) -> Vec<ServiceHealth> {
    let of_port = |&port: &u16| {
        let covering = checks.iter().filter(|(spec, _)| {
            spec.purpose == Purpose::Readiness && spec.service.is_none_or(|of| of == port)
        });
        let health = port_health(covering.map(|(_, status)| *status))?;
        Some(ServiceHealth { port, status: status(health) })
    };
    ports.iter().filter_map(of_port).collect()
}

/// Health of `ports` of a machine whose checks have not run yet.
pub(crate) fn unproven(ports: Vec<u16>) -> Vec<ServiceHealth> {
    let unproven = |port| ServiceHealth { port, status: HealthStatus::Unproven };
    ports.into_iter().map(unproven).collect()
}

fn status(health: PortHealth) -> HealthStatus {
    match health {
        PortHealth::Passing => HealthStatus::Passing,
        PortHealth::Unproven => HealthStatus::Unproven,
        PortHealth::Failing => HealthStatus::Failing,
    }
}
