//! The messages of version 2, frozen: variants and fields are encoded by their
//! order, so nothing here is ever added, removed or moved. The present types of
//! the same names document what each of them means.

#![allow(missing_docs)]

use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};

pub type ExecId = u32;
pub type ApiId = u32;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToGuest {
    Hello { version: u16, session: u64 },
    QuiesceForTemplate,
    Configure(Box<GuestConfig>),
    Resumed(Resume),
    Signal(i32),
    Stop { signal: i32, timeout_ms: u64 },
    PowerOff,
    Exec(ExecId, Exec),
    ExecInput(ExecId, #[serde(with = "serde_bytes")] Vec<u8>),
    ExecCredit(ExecId, u32),
    ExecResize(ExecId, TermSize),
    ExecSignal(ExecId, i32),
    ListProcesses(u32),
    Awake(i64),
    ApiData(ApiId, #[serde(with = "serde_bytes")] Vec<u8>),
    ApiEnd(ApiId),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToHost {
    Welcome { version: u16, session: u64, phase: Phase, listening: Vec<Listener> },
    Quiesced,
    ConfigFailed(String),
    Running { pid: i32, stages_ms: Vec<(String, f64)> },
    Exited(Exit),
    Listening(Listener, bool),
    Log(LogSource, #[serde(with = "serde_bytes")] Vec<u8>),
    LogDropped(u64),
    ExecOutput(ExecId, Output, #[serde(with = "serde_bytes")] Vec<u8>),
    ExecCredit(ExecId, u32),
    ExecExited(ExecId, Exit),
    ExecFailed(ExecId, String),
    Processes(u32, Vec<Process>),
    ApiOpen(ApiId),
    ApiData(ApiId, #[serde(with = "serde_bytes")] Vec<u8>),
    ApiEnd(ApiId),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Phase {
    AwaitingConfig,
    Preparing,
    Failed(String),
    Running(i32),
    Exited(Exit),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub code: i32,
    pub signal: i32,
    pub oom: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Listener {
    pub port: u16,
    pub reachable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogSource {
    Stdout,
    Stderr,
    Init,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub user: Option<String>,
    pub workdir: Option<String>,
    pub tty: Option<TermSize>,
    pub timeout_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermSize {
    pub rows: u16,
    pub cols: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    pub stime: u64,
    pub rtime: u64,
    pub command: String,
    pub directory: String,
    pub cpu: u64,
    pub rss: u64,
    pub listen_sockets: Vec<ListenSocket>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenSocket {
    pub proto: String,
    pub address: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GuestConfig {
    pub hostname: String,
    pub machine_id: String,
    pub now: i64,
    pub entropy: Vec<u8>,
    pub root: Device,
    pub scratch: Device,
    pub net: Option<Net>,
    pub resolv_conf: String,
    pub hosts: String,
    pub files: Vec<GuestFile>,
    pub main: Main,
    pub swap_mib: u64,
    pub log_buffer: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    pub now: i64,
    pub entropy: Vec<u8>,
    pub hook: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub path: String,
    pub fstype: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Net {
    pub mac: [u8; 6],
    pub ipv4: Ipv4Addr,
    pub ipv4_prefix: u8,
    pub ipv4_gateway: Ipv4Addr,
    pub ipv6: Ipv6Addr,
    pub ipv6_prefix: u8,
    pub ipv6_gateway: Ipv6Addr,
    pub mtu: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFile {
    pub path: String,
    pub mode: u32,
    #[serde(with = "serde_bytes")]
    pub content: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Main {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub user: String,
    pub workdir: String,
    pub tty: bool,
}
