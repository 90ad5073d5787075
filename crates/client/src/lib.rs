//! Typed calls to the APIs in wire; the only place that knows URLs.
//!
//! Every call is bounded: connecting by [`CONNECT`], short calls by [`SHORT`],
//! calls behind which an image may have to be pulled by [`LONG`], waits by what
//! the caller asks for. Only a followed log, a watch, an import and an exec are open-ended.

mod apps;
mod error;
mod images;
mod logs;
mod machines;
mod orgs;
mod secret_keys;
mod secrets;
mod streams;
mod tokens;
mod transport;
mod volumes;

pub use error::Error;
pub use logs::{LogEvent, LogEvents, LogSearch};
pub use machines::{Destroy, ListMachines, RestartMachine, WaitQuery};
pub use streams::{
    Events, ExecSink, ExecSource, ExecStream, Forwarded, Lines, News, ServerEvent, Watch,
};
pub use transport::{Client, Notice, Observer};

use std::time::Duration;

/// Most time a connection may take to come up.
pub const CONNECT: Duration = Duration::from_secs(5);
/// Most time of a call that only reads or records.
pub const SHORT: Duration = Duration::from_secs(30);
/// Most time of a call that may pull an image.
pub const LONG: Duration = Duration::from_secs(900);
/// Longest wait the server allows in one call
/// (<https://fly.io/docs/machines/api/machines-resource/>).
pub const WAIT: Duration = Duration::from_secs(60);
