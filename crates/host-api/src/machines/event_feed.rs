//! The events of all machines of a host, as one sequence.

use crate::{CallContext, HostError};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use model::id::{AppId, AppName, MachineId, MachineName, OrgId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use wire::machines::MachineEvent;

/// The events of a host's machines in the order in which they became durable.
///
/// The host numbers its events from 1. A number is never given twice, and numbers grow in the
/// order of the commits, over restarts too: a reader that has seen number `n` and follows from `n` on
/// misses nothing.
#[async_trait]
pub trait EventFeed: Send + Sync {
    /// First a [`FeedItem::Position`], then every event after it that the filter lets through.
    /// The stream ends when the host stops. A reader that does not keep up is sent the events
    /// later, from the database; it never slows the host.
    async fn follow_events(
        &self,
        context: CallContext,
        filter: EventFilter,
    ) -> Result<BoxStream<'static, FeedItem>, HostError>;
}

/// Which events of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventFilter {
    /// Only of this organization.
    pub org: Option<OrgId>,
    /// Only of this app.
    pub app: Option<AppId>,
    /// Only of this machine.
    pub machine: Option<MachineId>,
    /// Only after this number; `None` means from now on.
    pub after: Option<u64>,
}

/// One item of a host's feed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedItem {
    /// The reader has seen all events up to this number. Sent first, and from time to time while
    /// no event passes the filter.
    Position {
        /// Number of an event.
        at: u64,
    },
    /// Events between the number that was given and this one have been removed, or the number is
    /// of another database: what is known of the machines must be read again.
    Gap {
        /// The stream continues after this number.
        at: u64,
    },
    /// An event.
    Event(Arc<FeedEvent>),
}

/// An event with its number and its machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedEvent {
    /// Number of the event on its host.
    pub number: u64,
    /// Organization.
    pub org: OrgId,
    /// App.
    pub app: AppId,
    /// Name of the app.
    pub app_name: AppName,
    /// Machine.
    pub machine: MachineId,
    /// Name of the machine.
    pub machine_name: MachineName,
    /// Region code of the host.
    pub region: String,
    /// The event.
    pub event: MachineEvent,
}

impl EventFilter {
    /// Whether the event passes, whatever its number.
    pub fn matches(&self, event: &FeedEvent) -> bool {
        self.org.is_none_or(|org| org == event.org)
            && self.app.is_none_or(|app| app == event.app)
            && self.machine.is_none_or(|machine| machine == event.machine)
    }
}
