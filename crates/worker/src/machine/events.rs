//! Events of a machine and their ids.

use host_api::Source;
use model::id::{BootId, EventId, InstanceId};
use model::life::State;
use rt::{Clock, Rng};
use wire::machines::{EventDetails, MachineEvent};

/// Makes ids that grow, also within one millisecond.
pub(crate) struct EventIds {
    clock: Clock,
    rng: Rng,
    last: (u64, u128),
}

impl EventIds {
    /// New ids are greater than the `earlier` ones, also if the clock was set back
    /// since.
    pub(crate) fn new(clock: Clock, rng: Rng, earlier: impl Iterator<Item = (u64, u128)>) -> Self {
        Self { clock, rng, last: earlier.max().unwrap_or((0, 0)) }
    }

    /// Room below the largest ULID for the increments of one millisecond.
    const RANDOM: u128 = (1 << 79) - 1;

    fn next(&mut self) -> (u64, u128) {
        let now = self.clock.now_ms();
        self.last = match self.last {
            (ms, random) if now <= ms => (ms, random + 1),
            _ => (now, self.rng.wide_bits() & Self::RANDOM),
        };
        self.last
    }

    /// An id without an event.
    pub(crate) fn id(&mut self) -> EventId {
        let (ms, random) = self.next();
        EventId::new(ms, random)
    }

    pub(super) fn boot(&mut self) -> BootId {
        let (ms, random) = self.next();
        BootId::new(ms, random)
    }

    pub(super) fn instance(&mut self) -> InstanceId {
        let (ms, random) = self.next();
        InstanceId::new(ms, random)
    }

    pub(super) fn event(&mut self, kind: &str, state: State, source: Source) -> MachineEvent {
        let (ms, random) = self.next();
        new_event(EventId::new(ms, random), kind, state, source, self.clock.now_ms())
    }
}

/// One event without details.
pub(crate) fn new_event(
    id: EventId,
    kind: &str,
    state: State,
    source: Source,
    now_ms: u64,
) -> MachineEvent {
    MachineEvent {
        id: id.to_string(),
        kind: kind.into(),
        status: state.as_str().into(),
        source: match source {
            Source::User => "user",
            Source::Host => "flyd",
            Source::Proxy => "proxy",
        }
        .into(),
        timestamp: i64::try_from(now_ms).unwrap_or(i64::MAX),
        request: None,
    }
}

/// Details of an event that has only a reason.
pub(super) fn with_reason(reason: String) -> EventDetails {
    EventDetails { reason: Some(reason), ..EventDetails::default() }
}

/// Stages as they are shown, to a tenth of a millisecond.
pub(super) fn rounded(stages: impl IntoIterator<Item = (String, f64)>) -> Vec<(String, f64)> {
    stages.into_iter().map(|(name, ms)| (name, (ms * 10.0).round() / 10.0)).collect()
}
