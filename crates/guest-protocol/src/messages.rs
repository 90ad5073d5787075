//! The messages between host and init.

use crate::{GuestConfig, Resume, UnitId, UnitStatus};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Number of an exec within its session, chosen by the host.
pub type ExecId = u32;
/// Number of a connection to the guest's `/.fly/api`, chosen by init.
pub type ApiId = u32;

/// Host to init.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub enum ToGuest {
    /// First message of a session, in a form of its own (see [`crate::codec`]).
    #[n(0)]
    Hello {
        /// The highest version that the host supports.
        #[n(0)]
        version: u16,
        /// Chosen by the host, new for each connection.
        #[n(1)]
        session: u64,
        /// The lowest version that the host supports.
        #[n(2)]
        lowest: u16,
    },
    /// Finish all work under way, so that a template can be made of this guest:
    /// answered by [`ToHost::Quiesced`]. Nothing of a tenant is attached yet.
    #[n(1)]
    QuiesceForTemplate,
    /// The guest config. Ignored after the first.
    #[n(2)]
    Configure(#[n(0)] Box<GuestConfig>),
    /// The guest was suspended and has been resumed.
    #[n(3)]
    Resumed(#[n(0)] Resume),
    /// A signal for the main process, by Linux number.
    #[n(4)]
    Signal(#[n(0)] i32),
    /// End the main process: `signal`, then SIGKILL after `timeout_ms`.
    #[n(5)]
    Stop {
        /// Linux signal number.
        #[n(0)]
        signal: i32,
        /// Milliseconds until SIGKILL.
        #[n(1)]
        timeout_ms: u64,
    },
    /// The host has recorded [`ToHost::Exited`]; sync, unmount and power off.
    #[n(6)]
    PowerOff,
    /// Run a command beside the main process.
    #[n(7)]
    Exec(#[n(0)] ExecId, #[n(1)] Exec),
    /// Input for an exec; empty means end of input.
    #[n(8)]
    ExecInput(#[n(0)] ExecId, #[cbor(n(1), with = "minicbor::bytes")] Vec<u8>),
    /// The host has taken this many more bytes of output.
    #[n(9)]
    ExecCredit(#[n(0)] ExecId, #[n(1)] u32),
    /// New size of an exec's terminal.
    #[n(10)]
    ExecResize(#[n(0)] ExecId, #[n(1)] TermSize),
    /// Signal to an exec's process group.
    #[n(11)]
    ExecSignal(#[n(0)] ExecId, #[n(1)] i32),
    /// List processes; answered by [`ToHost::Processes`] with the same number.
    #[n(12)]
    ListProcesses(#[n(0)] u32),
    /// First message to a resumed guest, before the greeting and in a form of its
    /// own: set the clock (nanoseconds since the epoch), and give the app priority
    /// until [`ToGuest::Resumed`]. A client may be waiting for its answer.
    #[n(13)]
    Awake(#[n(0)] i64),
    /// Bytes of an answer for a connection to `/.fly/api`.
    #[n(14)]
    ApiData(#[n(0)] ApiId, #[cbor(n(1), with = "minicbor::bytes")] Vec<u8>),
    /// The host sends no more on that connection: close it.
    #[n(15)]
    ApiEnd(#[n(0)] ApiId),
    /// The host has stored all of this source's log before this offset: init may
    /// forget it. Data after it is sent again in the next session.
    #[n(16)]
    LogReceived(
        #[n(0)] LogSource,
        #[n(1)] u64,
        /// The unit of the source.
        #[n(2)]
        Option<UnitId>,
    ),
    /// Read the counters of the kernel; answered by [`ToHost::Stats`] with the same number.
    #[n(40)]
    ReadStats(#[n(0)] u32),
}

/// Init to host.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub enum ToHost {
    /// Answer to [`ToGuest::Hello`].
    #[n(0)]
    Welcome {
        /// The version of this session: the highest that both support, or the one
        /// that init supports if they share none.
        #[n(0)]
        version: u16,
        /// As in the greeting.
        #[n(1)]
        session: u64,
        /// The phase of the guest's life so far.
        #[n(2)]
        phase: Phase,
        /// Ports on which something listens now.
        #[n(3)]
        listening: Vec<Listener>,
    },
    /// Answer to [`ToGuest::QuiesceForTemplate`].
    #[n(1)]
    Quiesced,
    /// The configuration cannot be applied; init waits for [`ToGuest::PowerOff`].
    #[n(2)]
    ConfigFailed(#[n(0)] String),
    /// The main process runs (exec succeeded).
    #[n(3)]
    Running {
        /// Its pid in the guest.
        #[n(0)]
        pid: i32,
        /// Milliseconds since init began, by stage.
        #[n(1)]
        stages_ms: Vec<(String, f64)>,
    },
    /// The main process has ended; init waits for [`ToGuest::PowerOff`].
    #[n(4)]
    Exited(#[n(0)] Exit),
    /// A port began (`true`) or ceased to listen.
    #[n(5)]
    Listening(#[n(0)] Listener, #[n(1)] bool),
    /// Output of the main process, or messages of init itself.
    #[n(6)]
    Log {
        /// Where the data comes from.
        #[n(0)]
        source: LogSource,
        /// How many bytes of this source came before `data` since the guest was
        /// booted; `None` from an init of version 2. Data that was not
        /// acknowledged is sent again with the same offset.
        #[n(1)]
        offset: Option<u64>,
        /// Bytes; lines may be cut anywhere.
        #[cbor(n(2), with = "minicbor::bytes")]
        data: Vec<u8>,
        /// The unit that it is of, or about. Each unit's sources are numbered apart.
        #[n(3)]
        unit: Option<UnitId>,
    },
    /// Log bytes that were dropped since the last such message.
    #[n(7)]
    LogDropped(#[n(0)] u64),
    /// Output of an exec.
    #[n(8)]
    ExecOutput(#[n(0)] ExecId, #[n(1)] Output, #[cbor(n(2), with = "minicbor::bytes")] Vec<u8>),
    /// The guest has passed this many more bytes of input to the command.
    #[n(9)]
    ExecCredit(#[n(0)] ExecId, #[n(1)] u32),
    /// An exec has ended; its output has been sent before.
    #[n(10)]
    ExecExited(#[n(0)] ExecId, #[n(1)] Exit),
    /// An exec could not be started.
    #[n(11)]
    ExecFailed(
        #[n(0)] ExecId,
        /// The failed step and the reason, for people.
        #[n(1)]
        String,
        /// For programs; `None` if it is none of these.
        #[n(2)]
        Option<ExecErrorKind>,
    ),
    /// Answer to [`ToGuest::ListProcesses`].
    #[n(12)]
    Processes(#[n(0)] u32, #[n(1)] Vec<Process>),
    /// A process has connected to the Machines API.
    #[n(13)]
    ApiOpen(
        #[n(0)] ApiId,
        /// At `_api.internal` over TCP, not at the socket `/.fly/api`.
        #[n(1)]
        #[cbor(skip_if = "is_false")]
        bool,
    ),
    /// Bytes that it sent; at most [`crate::MAX_CHUNK`] in a message, and no more
    /// than [`crate::API_WINDOW`] in all on one connection.
    #[n(14)]
    ApiData(#[n(0)] ApiId, #[cbor(n(1), with = "minicbor::bytes")] Vec<u8>),
    /// It has closed the connection.
    #[n(15)]
    ApiEnd(#[n(0)] ApiId),
    /// Answer to [`ToGuest::ReadStats`].
    #[n(40)]
    Stats(#[n(0)] u32, #[n(1)] Box<GuestStats>),
    /// State of a unit; sent for each after the welcome, and at each change.
    #[n(16)]
    Unit(#[n(0)] UnitStatus),
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// How far a guest has come.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub enum Phase {
    /// Waits for [`ToGuest::Configure`].
    #[n(0)]
    AwaitingConfig,
    /// Applies it.
    #[n(1)]
    Preparing,
    /// It could not be applied.
    #[n(2)]
    Failed(#[n(0)] String),
    /// The main process runs under this pid.
    #[n(3)]
    Running(#[n(0)] i32),
    /// The main process has ended.
    #[n(4)]
    Exited(#[n(0)] Exit),
    /// Not known to this host: the guest uses another version.
    #[n(5)]
    Unknown,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(map)]
pub struct Exit {
    /// Exit code; 128 + signal if a signal ended it.
    #[n(0)]
    pub code: i32,
    /// Signal that ended it, or 0.
    #[n(1)]
    pub signal: i32,
    /// The kernel's OOM killer ended it.
    #[n(2)]
    pub oom: bool,
}

/// A listening TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Listener {
    /// Port.
    #[n(0)]
    pub port: u16,
    /// Bound so that the private IPv4 address reaches it (`0.0.0.0`, that
    /// address itself, or a dual-stack `[::]`).
    #[n(1)]
    pub reachable: bool,
}

/// Where log data comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum LogSource {
    /// Standard output of the main process.
    #[n(0)]
    Stdout,
    /// Its standard error.
    #[n(1)]
    Stderr,
    /// Init itself.
    #[n(2)]
    Init,
}

/// A stream of an exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Output {
    /// Standard output, or the terminal.
    #[n(0)]
    Stdout,
    /// Standard error.
    #[n(1)]
    Stderr,
}

/// Why an exec could not be started, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum ExecErrorKind {
    /// The program does not exist in the guest.
    #[n(0)]
    NotFound,
    /// It exists and cannot be executed.
    #[n(1)]
    NotExecutable,
}

/// A command to run beside the main process, with its environment, user and
/// working directory unless these name others.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Exec {
    /// Program and arguments; the program is looked up in the guest's PATH.
    #[n(0)]
    pub argv: Vec<String>,
    /// Added to the environment.
    #[n(1)]
    pub env: Vec<(String, String)>,
    /// `user[:group]`, names or numbers; `None` is root, as for `ssh console`.
    #[n(2)]
    pub user: Option<String>,
    /// Working directory; `None` is the image's.
    #[n(3)]
    pub workdir: Option<String>,
    /// Give it a terminal of this size.
    #[n(4)]
    pub tty: Option<TermSize>,
    /// SIGKILL after this many milliseconds.
    #[n(5)]
    pub timeout_ms: Option<u64>,
    /// Run it in this unit, with the unit's environment and directory.
    #[n(6)]
    pub unit: Option<UnitId>,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TermSize {
    /// Rows.
    #[n(0)]
    pub rows: u16,
    /// Columns.
    #[n(1)]
    pub cols: u16,
}

/// One process in the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Process {
    /// Process id in the guest.
    #[n(0)]
    pub pid: i32,
    /// Seconds of system time.
    #[n(1)]
    pub stime: u64,
    /// Seconds since it started.
    #[n(2)]
    pub rtime: u64,
    /// Command line.
    #[n(3)]
    pub command: String,
    /// Working directory.
    #[n(4)]
    pub directory: String,
    /// Per cent of one CPU over its life.
    #[n(5)]
    pub cpu: u64,
    /// Resident bytes.
    #[n(6)]
    pub rss: u64,
    /// Sockets it listens on.
    #[n(7)]
    pub listen_sockets: Vec<ListenSocket>,
}

/// Counters of the guest's kernel: files of `/proc` as they are (proc(5)), each cut where it
/// is too long, and file systems.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GuestStats {
    /// `/proc/loadavg`.
    #[n(0)]
    pub loadavg: String,
    /// `/proc/stat`.
    #[n(1)]
    pub stat: String,
    /// `/proc/meminfo`.
    #[n(2)]
    pub meminfo: String,
    /// `/proc/diskstats`.
    #[n(3)]
    pub diskstats: String,
    /// `/proc/net/dev`.
    #[n(4)]
    pub net_dev: String,
    /// `/proc/sys/fs/file-nr`.
    #[n(5)]
    pub file_nr: String,
    /// File systems that have blocks.
    #[n(6)]
    pub filesystems: Vec<FileSystem>,
}

/// One file system of the guest, as statvfs(3) has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FileSystem {
    /// Where it is mounted.
    #[n(0)]
    pub mount: String,
    /// Bytes of a block.
    #[n(1)]
    pub block_size: u64,
    /// Blocks in all.
    #[n(2)]
    pub blocks: u64,
    /// Free ones.
    #[n(3)]
    pub blocks_free: u64,
    /// Free ones that users other than root may use.
    #[n(4)]
    pub blocks_avail: u64,
}

/// A listening socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ListenSocket {
    /// `tcp`, `tcp6`, `udp` or `udp6`.
    #[n(0)]
    pub proto: String,
    /// `0.0.0.0:8080` or `[::]:8080`.
    #[n(1)]
    pub address: String,
}
