//! What the control plane asks of a host.

use crate::exec::TermSize;
use crate::machines::{ImageRef, MachineConfig};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A create whose names and config have been validated and claimed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreateMachine {
    /// Id, chosen by the control plane; it carries the host's number.
    pub id: String,
    /// App name.
    pub app: String,
    /// Org slug.
    pub org: String,
    /// 6PN network number.
    pub network: u32,
    /// Machine name.
    pub name: String,
    /// Validated, `guest` filled in.
    pub config: MachineConfig,
    /// What `config.image` resolved to on this host.
    pub image: ImageRef,
    /// Leave it in `created`.
    pub skip_launch: bool,
    /// Create cordoned.
    pub cordoned: bool,
}

/// An update: a new instance replaces the current one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateMachine {
    /// Machine id.
    pub id: String,
    /// Validated, `guest` filled in.
    pub config: MachineConfig,
    /// What `config.image` resolved to on this host.
    pub image: ImageRef,
    /// Do not start it if it is not running.
    pub skip_launch: bool,
    /// Refuse unless this is the current instance.
    pub current_version: Option<String>,
}

/// Which machines of a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineFilter {
    /// Only of this app.
    pub app: Option<String>,
    /// Also destroyed ones, as long as they are remembered.
    pub include_deleted: bool,
    /// Only in one of these states; empty means any.
    pub states: Vec<String>,
    /// Only in this region.
    pub region: Option<String>,
    /// Only with all of these labels.
    pub metadata: BTreeMap<String, String>,
    /// Without config and events.
    pub summary: bool,
}

/// What to wait for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WaitFor {
    /// Any of these states or `settled`; validated.
    pub states: Vec<String>,
    /// Of this instance; `None` means the current one.
    pub version: Option<String>,
    /// Only count what is newer than this event.
    pub from_event: Option<String>,
    /// Milliseconds.
    pub timeout_ms: u64,
}

/// Who asks for a change; becomes `source` of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// Through the API.
    User,
    /// The host itself.
    Host,
    /// The edge.
    Proxy,
}

/// A stop.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// Linux number; `None` means the config's.
    pub signal: Option<i32>,
    /// Milliseconds until SIGKILL; `None` means the config's.
    pub timeout_ms: Option<u64>,
}

/// A change of labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ChangeMetadata {
    /// Set (`Some`) or delete (`None`) these keys.
    Merge(BTreeMap<String, Option<String>>),
    /// Replace all.
    Replace(BTreeMap<String, String>),
}

/// A command to run in a guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecStart {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// `user[:group]`; `None` is root.
    #[serde(default)]
    pub user: Option<String>,
    /// Added to the environment.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Give it a terminal of this size.
    #[serde(default)]
    pub tty: Option<TermSize>,
    /// Milliseconds until it is killed.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// Client to an exec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ExecInput {
    /// Input; empty means end of input.
    Data(#[serde(with = "serde_bytes")] Vec<u8>),
    /// New size of the terminal.
    Resize(TermSize),
    /// Signal, Linux number.
    Signal(i32),
}

/// Exec to client; `Exited` or `Failed` is the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ExecOutput {
    /// Standard output, or the terminal.
    Stdout(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Standard error.
    Stderr(#[serde(with = "serde_bytes")] Vec<u8>),
    /// It has ended.
    Exited {
        /// Exit code, or 128 + signal.
        code: i32,
        /// Signal that ended it, or 0.
        signal: i32,
    },
    /// It could not be run, or the machine went away.
    Failed(String),
}

/// What a host is and has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostInfo {
    /// Number, unique in the platform.
    pub host: u16,
    /// Region code.
    pub region: String,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// Version of the hypervisor.
    pub hypervisor: String,
    /// CPUs.
    pub cpus: u32,
    /// MiB of memory that there is for machines.
    pub memory_mib: u64,
    /// MiB promised to running machines.
    pub memory_reserved_mib: u64,
    /// MiB that the VMs really hold: the sum of their PSS.
    #[serde(default)]
    pub memory_used_mib: u64,
    /// How many times `memory_mib` may be promised; 1, and 0 for hosts that do
    /// not say, mean no more than there is.
    #[serde(default)]
    pub overcommit: f64,
    /// Sizes that start from a template, as CPUs and MiB: `1x256`.
    #[serde(default)]
    pub templates: Vec<String>,
    /// Machines by state.
    pub machines: BTreeMap<String, u64>,
}

/// Why a host refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostError {
    /// Nothing of that id here.
    NotFound(String),
    /// Against the current state (409).
    Conflict(String),
    /// The version given is not current (412).
    Stale(String),
    /// Bad input (400).
    Invalid(String),
    /// No room (insufficient_capacity).
    NoCapacity(String),
    /// Took too long (408).
    Timeout(String),
    /// A defect or a broken host (500).
    Internal(String),
}

impl std::fmt::Display for HostError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound(m)
            | Self::Conflict(m)
            | Self::Stale(m)
            | Self::Invalid(m)
            | Self::NoCapacity(m)
            | Self::Timeout(m)
            | Self::Internal(m) => f.write_str(m),
        }
    }
}

impl std::error::Error for HostError {}
