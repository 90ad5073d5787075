//! Several processes or containers in one guest. Each is a unit, and is named in
//! messages by its place in [`crate::GuestConfig::units`].

use crate::{Exit, GuestFile, Main};
use minicbor::{Decode, Encode};

/// Place of a unit in [`crate::GuestConfig::units`].
pub type UnitId = u16;

/// Most units of a guest.
pub const MAX_UNITS: usize = 32;

/// A process of a guest with several, or a container.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Unit {
    /// Name; may be empty for a process.
    #[n(0)]
    pub name: String,
    /// Its main process.
    #[n(1)]
    pub main: Main,
    /// What makes it a container. The end of a unit that is none ends all others, and
    /// then the guest's run.
    #[n(2)]
    pub container: Option<Container>,
}

/// A unit with a root file system, mounts and process ids of its own. It shares
/// network, IPC, devices and host name with the others.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Container {
    /// Place of its image in [`crate::GuestConfig::images`]; `None` is the image of the
    /// guest's own root.
    #[n(0)]
    pub image: Option<u16>,
    /// Files to write into its root before it starts first.
    #[n(1)]
    pub files: Vec<GuestFile>,
    /// When it is started again after its end.
    #[n(2)]
    pub restart: RestartRule,
    /// Signal that ends it at a stop of the guest; `None` is that of the stop.
    #[n(3)]
    pub stop_signal: Option<i32>,
    /// Milliseconds from that until SIGKILL, at most those of the stop.
    #[n(4)]
    pub stop_timeout_ms: Option<u64>,
    /// What it waits for before it starts.
    #[n(5)]
    pub depends_on: Vec<Dependency>,
    /// Its health checks.
    #[n(6)]
    pub checks: Vec<UnitCheck>,
    /// Volumes in its root.
    #[n(7)]
    pub mounts: Vec<UnitMount>,
}

/// When a container is started again, with the numbers of the host's own policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RestartRule {
    /// After which ends.
    #[n(0)]
    pub when: RestartWhen,
    /// Restarts within the window, after which it stays down; for failures only.
    #[n(1)]
    pub max_retries: u32,
    /// Milliseconds for which a restart counts.
    #[n(2)]
    pub window_ms: u64,
    /// Pauses before the first, second, … restart within the window, in milliseconds; the
    /// last is that of all further ones. Empty means none.
    #[n(3)]
    pub pauses_ms: Vec<u64>,
}

/// After which ends a container is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum RestartWhen {
    /// None.
    #[default]
    #[n(0)]
    Never,
    /// Those with an exit code other than 0.
    #[n(1)]
    OnFailure,
    /// All.
    #[n(2)]
    Always,
}

/// A container that another waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Dependency {
    /// The container.
    #[n(0)]
    pub unit: UnitId,
    /// What is waited for.
    #[n(1)]
    pub condition: Condition,
}

/// What a container waits for in another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Condition {
    /// Its process has been started.
    #[n(0)]
    Started,
    /// All of its checks pass.
    #[n(1)]
    Healthy,
    /// It has ended with 0 and is not started again.
    #[n(2)]
    ExitedSuccessfully,
}

/// A health check of a container, run by init.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct UnitCheck {
    /// Name, for the log.
    #[n(0)]
    pub name: String,
    /// A failure ends the container: its restart rule decides what follows.
    #[n(1)]
    pub stops: bool,
    /// Milliseconds between two runs.
    #[n(2)]
    pub interval_ms: u64,
    /// Milliseconds for one run.
    #[n(3)]
    pub timeout_ms: u64,
    /// Milliseconds after the start in which failures do not count.
    #[n(4)]
    pub grace_ms: u64,
    /// Successes in a row that make it pass.
    #[n(5)]
    pub success_threshold: u32,
    /// Failures in a row that make it fail.
    #[n(6)]
    pub failure_threshold: u32,
    /// What is done.
    #[n(7)]
    pub probe: Probe,
}

/// One run of a check.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum Probe {
    /// A connection to a port of loopback.
    #[n(0)]
    Tcp(#[n(0)] u16),
    /// An HTTP/1.1 request to a port of loopback; a status from 200 to 399 is a success.
    #[n(1)]
    Http {
        /// Port.
        #[n(0)]
        port: u16,
        /// Method.
        #[n(1)]
        method: String,
        /// Path with its query.
        #[n(2)]
        path: String,
        /// Further headers.
        #[n(3)]
        headers: Vec<(String, String)>,
    },
    /// A command in the container; exit code 0 is a success.
    #[n(2)]
    Exec(#[n(0)] Vec<String>),
}

/// A volume that a container mounts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct UnitMount {
    /// Place of the volume in [`crate::GuestConfig::volumes`].
    #[n(0)]
    pub volume: u16,
    /// Absolute path in the container.
    #[n(1)]
    pub path: String,
}

/// A directory that containers share. It is empty at each boot.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TempDir {
    /// Name, unique.
    #[n(0)]
    pub name: String,
    /// It is in memory and has this many MiB; `None` is on the scratch disk.
    #[n(1)]
    pub memory_mib: Option<u64>,
}

/// State of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct UnitStatus {
    /// The unit.
    #[n(0)]
    pub unit: UnitId,
    /// What it does.
    #[n(1)]
    pub state: UnitState,
    /// How its process ended last.
    #[n(2)]
    pub exit: Option<Exit>,
}

/// What a unit does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum UnitState {
    /// It waits for those that it depends on.
    #[default]
    #[n(0)]
    Waiting,
    /// Its process runs; its checks have not decided yet, or there are none.
    #[n(1)]
    Started,
    /// It runs, and all of its checks pass.
    #[n(2)]
    Healthy,
    /// It runs, and a check fails.
    #[n(3)]
    Unhealthy,
    /// It has ended and is started again after a pause.
    #[n(4)]
    Restarting,
    /// It has ended with 0, or was stopped.
    #[n(5)]
    Stopped,
    /// It has ended otherwise, or could not be started.
    #[n(6)]
    Failed,
}
