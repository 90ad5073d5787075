//! What every call to a host carries beside its arguments.

use model::id::{Epoch, HostId, MachineId};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;

/// Origin of a change; becomes `source` of the machine's event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A user, through the API.
    User,
    /// The platform itself: a reconciler, or the host.
    Host,
    /// The edge.
    Proxy,
}

/// The party that makes a call, for the audit log and for events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caller {
    /// A client of the API, by the name of its token.
    Token(String),
    /// A process in a machine, over `/.fly/api`.
    Machine(MachineId),
    /// A reconciler or another part of the control plane.
    Control,
    /// An edge.
    Edge,
    /// Another host.
    Host(HostId),
}

/// The moment after which the caller no longer waits for an answer.
///
/// Between processes the remaining time travels, not the moment: clocks differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// `time` from now.
    pub fn within(time: Duration) -> Self {
        // A century is as good as no limit, and does not overflow.
        const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        Self(Instant::now() + time.min(LONGEST))
    }

    /// Time that is left; zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Returns once it has passed.
    pub async fn passed(self) {
        tokio::time::sleep_until(self.0).await;
    }
}

impl Serialize for Deadline {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ms = self.remaining().as_millis();
        serializer.serialize_u64(u64::try_from(ms).unwrap_or(u64::MAX))
    }
}

impl<'de> Deserialize<'de> for Deadline {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        u64::deserialize(from).map(|ms| Self::within(Duration::from_millis(ms)))
    }
}

/// What every call to a host carries beside its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallContext {
    /// The party that makes the call.
    pub caller: Caller,
    /// Becomes `source` of the event.
    pub source: Source,
    /// Until when the caller waits.
    pub deadline: Deadline,
    /// The same key means the same call: it is carried out at most once while
    /// the host remembers the key (at least an hour).
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// Nonce of the lease that the caller holds on the machine.
    #[serde(default)]
    pub lease_nonce: Option<String>,
    /// Epoch of ownership that the caller read in the machine's record; `None`
    /// for calls that concern no machine, and for reads.
    #[serde(default)]
    pub epoch: Option<Epoch>,
}

impl CallContext {
    /// A call without key, lease and epoch.
    pub fn new(caller: Caller, source: Source, deadline: Deadline) -> Self {
        Self { caller, source, deadline, idempotency_key: None, lease_nonce: None, epoch: None }
    }

    /// A call of the control plane for itself.
    pub fn control(within: Duration) -> Self {
        Self::new(Caller::Control, Source::Host, Deadline::within(within))
    }

    /// A call of the edge.
    pub fn edge(within: Duration) -> Self {
        Self::new(Caller::Edge, Source::Proxy, Deadline::within(within))
    }

    /// The same on behalf of an owner of this epoch.
    #[must_use]
    pub fn at(self, epoch: Epoch) -> Self {
        Self { epoch: Some(epoch), ..self }
    }

    /// Whether a lease of another caller refuses this call. What the platform does itself,
    /// and what the edge does for traffic, never waits for a user.
    pub fn respects_leases(&self) -> bool {
        self.source == Source::User
    }

    /// The same with a key.
    #[must_use]
    pub fn keyed(self, key: impl Into<String>) -> Self {
        Self { idempotency_key: Some(key.into()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_travels_as_the_time_that_is_left() {
        let context = CallContext::control(Duration::from_secs(5)).at(Epoch(3));
        tokio::time::advance(Duration::from_secs(2)).await;
        let sent = serde_json::to_string(&context).unwrap();
        assert!(sent.contains(r#""deadline":3000"#), "{sent}");
        tokio::time::advance(Duration::from_secs(60)).await;
        let received: CallContext = serde_json::from_str(&sent).unwrap();
        assert_eq!(received.deadline.remaining(), Duration::from_secs(3));
        assert_eq!(received.epoch, Some(Epoch(3)));
        assert_eq!(context.deadline.remaining(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_deadline_without_limit_does_not_overflow() {
        let forever: Deadline = serde_json::from_str("18446744073709551615").unwrap();
        assert!(forever.remaining() > Duration::from_secs(3600));
    }
}
