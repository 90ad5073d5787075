//! The files of the logs: their names, their contents, and the index of them all that is kept
//! in memory.
//!
//! A log is a row of segments. The name of a segment has the number of its first line and the
//! time of the line before that one, and never changes: a path always has the same lines, so
//! readers need no lock. The first number of the oldest segment also shows how many lines have
//! been removed.

mod index;
mod migrate;
mod names;
mod segments;

pub(super) use index::{Index, LogFiles, Segment};
pub(crate) use names::APP;
pub(super) use names::path;
pub(super) use segments::{Added, append, begin, end_of, note_end, resume};
