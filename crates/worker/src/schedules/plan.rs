//! The schedule of a machine's config.

use crate::record::Record;
use model::life::{State, Want};
use model::schedule::{Misfire, Overlap, Schedule};

/// The schedule of a machine.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) schedule: Schedule,
    pub(super) overlap: Overlap,
    pub(super) misfire: Misfire,
    /// Names it: another schedule begins again.
    pub(super) spec: String,
    /// Where its periods begin.
    pub(super) anchor_ms: u64,
}

impl Plan {
    /// `None` for a machine without a schedule, for a standby, and for one that is being
    /// destroyed.
    pub(super) fn of(record: &Record) -> Option<Self> {
        let spec = spec(record)?;
        let options = record.config.schedule_options.clone().unwrap_or_default();
        let text = record.config.schedule.as_deref()?;
        // The API refuses what does not parse.
        let schedule = Schedule::parse(text, options.timezone.as_deref()).ok()?;
        let overlap = options.overlap.as_deref().and_then(Overlap::parse).unwrap_or_default();
        let misfire = options.misfire.as_deref().and_then(Misfire::parse).unwrap_or_default();
        Some(Self { schedule, overlap, misfire, spec, anchor_ms: record.created_ms })
    }
}

/// The name of a machine's schedule, as [`Plan::of`] takes it.
pub(super) fn spec(record: &Record) -> Option<String> {
    let gone = matches!(record.state, State::Destroying | State::Destroyed);
    if gone || record.want == Want::Destroy || record.is_standby() {
        return None;
    }
    let text = record.config.schedule.as_deref().filter(|text| !text.is_empty())?;
    let options = record.config.schedule_options.as_ref();
    let options = options.map(|options| serde_json::to_string(options).unwrap_or_default());
    Some(format!("{text} {}", options.unwrap_or_default()))
}

/// The machine does not run and is not about to.
pub(super) fn is_down(record: &Record) -> bool {
    let down =
        matches!(record.state, State::Created | State::Stopped | State::Failed | State::Suspended);
    down && record.want != Want::Run
}
