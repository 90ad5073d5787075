//! Host and pid 1 of a guest, over one virtio-serial port named [`PORT`].
//!
//! Each message is one [`codec`] frame: postcard with a CRC-32, COBS-encoded,
//! ended by a zero byte. A zero byte begins a frame too, so a reader that joins
//! in the middle (the daemon was restarted) skips to the next one; a frame that
//! is too long or fails its checksum is dropped.
//!
//! A session: the host connects and sends [`ToGuest::Hello`]. Init ends the
//! execs of any earlier session, then answers [`ToHost::Welcome`] with the same
//! session number, and what it has to say of the past: its [`Phase`], the
//! ports that listen. The host ignores every frame before that welcome.
//!
//! Bounds: a frame is at most [`MAX_FRAME`] bytes. Bulk data of an exec flows
//! under credit in both directions ([`WINDOW`] bytes to begin with), so neither
//! reader ever waits for a slow process or client. Log data has no credit: init
//! drops what does not fit into its buffer and says how much it dropped.

pub mod codec;
mod orders;

pub use orders::*;

use serde::{Deserialize, Serialize};

/// Version of this protocol; the first field of both greetings.
pub const VERSION: u16 = 2;
/// Name of the virtio-serial port.
pub const PORT: &str = "updraft.agent";
/// Longest frame before COBS, in bytes.
pub const MAX_FRAME: usize = 256 * 1024;
/// Longest bulk payload in one message, in bytes.
pub const MAX_CHUNK: usize = 32 * 1024;
/// Most bytes a guest may send on one connection to `/.fly/api`: its requests are small.
pub const API_WINDOW: usize = 64 * 1024;
/// Most connections to `/.fly/api` at a time.
pub const API_CONNECTIONS: usize = 16;
/// Bytes each side of an exec stream may have under way before more credit.
pub const WINDOW: u32 = 256 * 1024;

/// Number of an exec within its session, chosen by the host.
pub type ExecId = u32;
/// Number of a connection to the guest's `/.fly/api`, chosen by init.
pub type ApiId = u32;

/// Host to init.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToGuest {
    /// First message of a session.
    Hello {
        /// The host's [`VERSION`].
        version: u16,
        /// Chosen by the host, new for each connection.
        session: u64,
    },
    /// Get ready to be made a template of: answered by [`ToHost::Settled`] once
    /// nothing is under way any more. Nothing of a tenant is attached yet.
    Settle,
    /// What this guest is to be and run. Ignored after the first.
    Orders(Box<Orders>),
    /// The guest was suspended and goes on now.
    Resumed(Resume),
    /// A signal for the main process, by Linux number.
    Signal(i32),
    /// End the main process: `signal`, then SIGKILL after `timeout_ms`.
    Stop {
        /// Linux signal number.
        signal: i32,
        /// Milliseconds until SIGKILL.
        timeout_ms: u64,
    },
    /// The host has recorded [`ToHost::Exited`]; sync, unmount and power off.
    PowerOff,
    /// Run a command beside the main process.
    Exec(ExecId, Exec),
    /// Input for an exec; empty means end of input.
    ExecInput(ExecId, #[serde(with = "serde_bytes")] Vec<u8>),
    /// The host has taken this many more bytes of output.
    ExecCredit(ExecId, u32),
    /// New size of an exec's terminal.
    ExecResize(ExecId, TermSize),
    /// Signal to an exec's process group.
    ExecSignal(ExecId, i32),
    /// List processes; answered by [`ToHost::Processes`] with the same number.
    ListProcesses(u32),
    /// First word to a guest that goes on after it was suspended, before the
    /// greeting: set the clock (nanoseconds since the epoch), and let the app go
    /// first until [`ToGuest::Resumed`]. Somebody may be waiting for its answer.
    Awake(i64),
    /// Bytes of an answer for a connection to `/.fly/api`.
    ApiData(ApiId, #[serde(with = "serde_bytes")] Vec<u8>),
    /// The host has no more to say on that connection: close it.
    ApiEnd(ApiId),
}

/// Init to host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToHost {
    /// Answer to [`ToGuest::Hello`].
    Welcome {
        /// Init's [`VERSION`].
        version: u16,
        /// As in the greeting.
        session: u64,
        /// What has happened so far.
        phase: Phase,
        /// Ports on which something listens now.
        listening: Vec<Listener>,
    },
    /// Answer to [`ToGuest::Settle`].
    Settled,
    /// The orders cannot be carried out; init waits for [`ToGuest::PowerOff`].
    OrdersFailed(String),
    /// The main process runs (exec succeeded).
    Running {
        /// Its pid in the guest.
        pid: i32,
        /// Milliseconds since init began, by stage.
        stages_ms: Vec<(String, f64)>,
    },
    /// The main process has ended; init waits for [`ToGuest::PowerOff`].
    Exited(Exit),
    /// A port began (`true`) or ceased to listen.
    Listening(Listener, bool),
    /// Output of the main process or words of init's own.
    Log(LogSource, #[serde(with = "serde_bytes")] Vec<u8>),
    /// Log bytes that were dropped since the last such message.
    LogDropped(u64),
    /// Output of an exec.
    ExecOutput(ExecId, Output, #[serde(with = "serde_bytes")] Vec<u8>),
    /// The guest has passed this many more bytes of input on.
    ExecCredit(ExecId, u32),
    /// An exec has ended; its output has been sent before.
    ExecExited(ExecId, Exit),
    /// An exec could not be started.
    ExecFailed(ExecId, String),
    /// Answer to [`ToGuest::ListProcesses`].
    Processes(u32, Vec<Process>),
    /// A process has connected to `/.fly/api`.
    ApiOpen(ApiId),
    /// Bytes that it sent; at most [`MAX_CHUNK`] in a message, and no more than
    /// [`API_WINDOW`] in all on one connection.
    ApiData(ApiId, #[serde(with = "serde_bytes")] Vec<u8>),
    /// It has closed the connection.
    ApiEnd(ApiId),
}

/// How far a guest has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Phase {
    /// Waits for [`ToGuest::Orders`].
    AwaitsOrders,
    /// Carries them out.
    Preparing,
    /// They could not be carried out.
    Failed(String),
    /// The main process runs under this pid.
    Running(i32),
    /// The main process has ended.
    Exited(Exit),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 + signal if a signal ended it.
    pub code: i32,
    /// Signal that ended it, or 0.
    pub signal: i32,
    /// The kernel killed it for want of memory.
    pub oom: bool,
}

/// A listening TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Listener {
    /// Port.
    pub port: u16,
    /// Bound so that the private IPv4 address reaches it (`0.0.0.0`, that
    /// address itself, or a dual-stack `[::]`).
    pub reachable: bool,
}

/// Whose words a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogSource {
    /// Standard output of the main process.
    Stdout,
    /// Its standard error.
    Stderr,
    /// Init itself.
    Init,
}

/// Which stream of an exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A command to run beside the main process, with its environment, user and
/// working directory unless told otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments; the program is looked up in the guest's PATH.
    pub argv: Vec<String>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// `user[:group]`, names or numbers; `None` is root, as `ssh console` is.
    pub user: Option<String>,
    /// Working directory; `None` is the image's.
    pub workdir: Option<String>,
    /// Give it a terminal of this size.
    pub tty: Option<TermSize>,
    /// SIGKILL after this many milliseconds.
    pub timeout_ms: Option<u64>,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// One process in the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id in the guest.
    pub pid: i32,
    /// Seconds of system time.
    pub stime: u64,
    /// Seconds since it started.
    pub rtime: u64,
    /// Command line.
    pub command: String,
    /// Working directory.
    pub directory: String,
    /// Per cent of one CPU over its life.
    pub cpu: u64,
    /// Resident bytes.
    pub rss: u64,
    /// Sockets it listens on.
    pub listen_sockets: Vec<ListenSocket>,
}

/// A listening socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenSocket {
    /// `tcp`, `tcp6`, `udp` or `udp6`.
    pub proto: String,
    /// `0.0.0.0:8080` or `[::]:8080`.
    pub address: String,
}
