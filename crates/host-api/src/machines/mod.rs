//! The life of machines.

mod checks;
mod event_feed;
mod exec;
mod leases;
mod logs;
mod memory;
mod schedules;
mod secrets;

pub use checks::Checks;
pub use event_feed::{EventFeed, EventFilter, FeedEvent, FeedItem};
pub use exec::{Exec, ExecError, ExecInput, ExecOutput, ExecSession, ExecStart};
pub use leases::{AcquireLease, Leases};
pub use logs::{LogFilter, LogLine, Logs};
pub use memory::Memory;
pub use schedules::Schedules;
pub use secrets::{AppSecrets, ScopedSecret, Secrets};

use crate::{CallContext, HostError};
use async_trait::async_trait;
use model::address::MachineNumber;
use model::id::{AppId, AppName, Epoch, EventId, InstanceId, MachineId, MachineName, NetworkId};
use model::id::{OrgId, OrgSlug};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wire::machines::{
    ImageRef, Machine, MachineConfig, MachineEvent, MachineVersion, Process, Started, WaitResult,
};

/// The life of machines on one host.
#[async_trait]
pub trait Machines: Send + Sync {
    /// Records and reserves a machine; it is started in the background. The
    /// host owns it from then on, at `create.epoch`.
    ///
    /// A machine of that id and epoch that is here already is the answer, if it
    /// was created with the same content; else [`HostError::Conflict`].
    async fn create(
        &self,
        context: CallContext,
        create: CreateMachine,
    ) -> Result<Machine, HostError>;

    /// Replaces the config by a new instance.
    async fn update(
        &self,
        context: CallContext,
        update: UpdateMachine,
    ) -> Result<Machine, HostError>;

    /// One machine, also a destroyed one as long as it is remembered.
    async fn machine(&self, context: CallContext, id: MachineId) -> Result<Machine, HostError>;

    /// Machines, oldest first.
    async fn machines(
        &self,
        context: CallContext,
        filter: MachineFilter,
    ) -> Result<Vec<Machine>, HostError>;

    /// Wants the machine to run; one that is suspended is resumed.
    async fn start(&self, context: CallContext, id: MachineId) -> Result<Started, HostError>;

    /// Wants the machine to be stopped; one that is suspended loses its memory.
    async fn stop(&self, context: CallContext, id: MachineId, stop: Stop) -> Result<(), HostError>;

    /// Wants the machine to be suspended: down, with its memory kept. Only of
    /// a machine that runs ([`HostError::Conflict`]).
    async fn suspend(&self, context: CallContext, id: MachineId) -> Result<(), HostError>;

    /// Stops and starts it on this host; with `force` also one that is not started.
    async fn restart(
        &self,
        context: CallContext,
        id: MachineId,
        stop: Stop,
        force: bool,
    ) -> Result<(), HostError>;

    /// Sends a signal, by Linux number, to the main process.
    async fn signal(
        &self,
        context: CallContext,
        id: MachineId,
        signal: i32,
    ) -> Result<(), HostError>;

    /// Wants the machine to be destroyed; a running one only with `force`.
    async fn destroy(
        &self,
        context: CallContext,
        id: MachineId,
        force: bool,
    ) -> Result<(), HostError>;

    /// Takes a machine out of routing, or back in.
    async fn cordon(
        &self,
        context: CallContext,
        id: MachineId,
        cordoned: bool,
    ) -> Result<(), HostError>;

    /// Changes labels, without a new version. With `version` only if that is
    /// the current instance ([`HostError::VersionMismatch`]).
    async fn change_metadata(
        &self,
        context: CallContext,
        id: MachineId,
        change: ChangeMetadata,
        version: Option<InstanceId>,
    ) -> Result<(), HostError>;

    /// Newest events first, at most `limit`, all of them older than `before`.
    async fn events(
        &self,
        context: CallContext,
        id: MachineId,
        limit: usize,
        before: Option<EventId>,
    ) -> Result<Vec<MachineEvent>, HostError>;

    /// All versions that are kept, newest first.
    async fn versions(
        &self,
        context: CallContext,
        id: MachineId,
    ) -> Result<Vec<MachineVersion>, HostError>;

    /// Returns once the machine is in one of the states, or
    /// [`HostError::DeadlineExceeded`]. Pushed, not polled.
    async fn wait(
        &self,
        context: CallContext,
        id: MachineId,
        wait: WaitFor,
    ) -> Result<WaitResult, HostError>;

    /// Processes in the guest.
    async fn processes(
        &self,
        context: CallContext,
        id: MachineId,
    ) -> Result<Vec<Process>, HostError>;
}

/// A create whose names and config have been validated and claimed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreateMachine {
    /// Id, chosen by the control plane.
    pub id: MachineId,
    /// Ownership of this host, as written in the machine's record.
    pub epoch: Epoch,
    /// Number that its 6PN address follows from.
    pub number: MachineNumber,
    /// App.
    pub app: AppId,
    /// Name of the app, for logs, routes and the guest's environment.
    pub app_name: AppName,
    /// Organization.
    pub org: OrgId,
    /// Slug of the organization, for the guest's environment.
    pub org_slug: OrgSlug,
    /// 6PN network.
    pub network: NetworkId,
    /// Machine name.
    pub name: MachineName,
    /// The code of the host's region that it was asked for; `None`: the region's own.
    #[serde(default)]
    pub region: Option<String>,
    /// Validated, `guest` filled in.
    pub config: MachineConfig,
    /// What `config.image`, else the first container's image, resolved to on this host.
    pub image: ImageRef,
    /// What the images of its containers resolved to, by reference.
    #[serde(default)]
    pub container_images: BTreeMap<String, ImageRef>,
    /// Prepare it, and leave it down.
    pub skip_launch: bool,
    /// Create cordoned.
    pub cordoned: bool,
    /// Give it none of the app's secrets.
    #[serde(default)]
    pub skip_secrets: bool,
    /// Lease it to the caller at once; the answer has the nonce.
    #[serde(default)]
    pub lease: Option<AcquireLease>,
}

/// An update: a new instance replaces the current one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateMachine {
    /// Machine id.
    pub id: MachineId,
    /// Validated, `guest` filled in.
    pub config: MachineConfig,
    /// What `config.image`, else the first container's image, resolved to on this host.
    pub image: ImageRef,
    /// What the images of its containers resolved to, by reference.
    #[serde(default)]
    pub container_images: BTreeMap<String, ImageRef>,
    /// Leave it stopped after the update; one that runs is stopped.
    pub skip_launch: bool,
    /// Refuse unless this is the current instance.
    pub current_version: Option<InstanceId>,
    /// Cordon the machine with this update, or take it back in; `None` leaves
    /// that as it is.
    #[serde(default)]
    pub cordoned: Option<bool>,
    /// Give it none of the app's secrets from now on.
    #[serde(default)]
    pub skip_secrets: bool,
    /// Lease it to the caller with this update, or renew the caller's lease; the answer
    /// has the nonce.
    #[serde(default)]
    pub lease: Option<AcquireLease>,
    /// In place of the labels of `config`: the machine's labels as they are when it is
    /// updated, with this change. Labels change without a new version.
    #[serde(default)]
    pub labels: Option<ChangeMetadata>,
}

/// Which machines of a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineFilter {
    /// Only of this app.
    pub app: Option<AppId>,
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
    /// With their leases.
    #[serde(default)]
    pub leases: bool,
    /// Only of this organization.
    #[serde(default)]
    pub org: Option<OrgId>,
}

/// What to wait for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WaitFor {
    /// Any of these states or `settled`; validated.
    pub states: Vec<String>,
    /// Of this instance; `None` means any.
    pub version: Option<InstanceId>,
    /// Only count what is newer than this event.
    pub from_event: Option<EventId>,
    /// Milliseconds; the call's deadline ends the wait, too.
    pub timeout_ms: u64,
}

/// A stop.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// Linux number; `None` means the config's, else the image's, else SIGINT.
    pub signal: Option<i32>,
    /// Milliseconds until SIGKILL; `None` means the config's.
    pub timeout_ms: Option<u64>,
}

/// Labels of one machine.
pub const MAX_LABELS: usize = 64;
/// Bytes of all its labels, keys and values.
pub const MAX_LABEL_BYTES: usize = 64 * 1024;

/// The rule that the labels of a machine break, all taken together.
///
/// # Errors
/// They are too many or too long.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if labels.len() <= MAX_LABELS && bytes <= MAX_LABEL_BYTES {
        return Ok(());
    }
    Err(format!(
        "a machine has at most {MAX_LABELS} entries of {MAX_LABEL_BYTES} bytes in all, not {} of \
         {bytes}",
        labels.len()
    ))
}

/// A change of labels. An empty value is a value; all labels together are
/// bounded ([`check_labels`], else [`HostError::Invalid`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeMetadata {
    /// Set (`Some`) or delete (`None`) these keys.
    Merge(BTreeMap<String, Option<String>>),
    /// Replace all.
    Replace(BTreeMap<String, String>),
}

impl ChangeMetadata {
    /// Makes the change.
    pub fn apply(self, labels: &mut BTreeMap<String, String>) {
        match self {
            Self::Replace(all) => *labels = all,
            Self::Merge(some) => {
                for (key, value) in some {
                    match value {
                        Some(value) => labels.insert(key, value),
                        None => labels.remove(&key),
                    };
                }
            }
        }
    }
}
