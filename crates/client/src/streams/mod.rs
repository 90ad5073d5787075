//! Answers that last: lines, events, a command in a machine, and whole requests of other
//! programs that are passed on.

mod events;
mod exec;
mod forward;
mod lines;
mod watch;

pub use events::{Events, ServerEvent};
pub use exec::{ExecSink, ExecSource, ExecStream};
pub use forward::Forwarded;
pub use lines::Lines;
pub use watch::{News, Watch};
