//! Answers without an end, read as they come.

mod events;
mod lines;

pub use events::{Events, ServerEvent};
pub use lines::Lines;
