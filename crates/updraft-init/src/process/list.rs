//! The list of the guest's processes, from `/proc`.

use crate::system::listeners;
use guest_protocol::{ListenSocket, Process};
use std::collections::HashMap;
use std::io::Read;
use std::net::IpAddr;

/// Kernel clock ticks in a second, as user space sees them on every Linux.
const TICKS: u64 = 100;
const PAGE: u64 = 4096;
/// Bounds of one answer, which has to fit into one frame.
const MAX_PROCESSES: usize = 1000;
const MAX_BYTES: usize = guest_protocol::MAX_FRAME / 2;
const MAX_COMMAND: usize = 1024;
const MAX_SOCKETS: usize = 64;
/// Descriptors looked at in one process.
const MAX_DESCRIPTORS: usize = 4096;

/// Lists all but kernel threads and init.
pub(crate) fn list() -> Vec<Process> {
    let sockets = listening_sockets();
    let uptime = uptime();
    let mut room = MAX_BYTES;
    let mut processes = Vec::new();
    for pid in pids() {
        let Some(process) = read(pid, uptime, &sockets) else { continue };
        let sockets: usize = process.listen_sockets.iter().map(|s| s.address.len() + 8).sum();
        let size = process.command.len() + process.directory.len() + sockets + 64;
        if size > room || processes.len() == MAX_PROCESSES {
            break;
        }
        room -= size;
        processes.push(process);
    }
    processes
}

fn pids() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut pids: Vec<i32> =
        entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    pids.retain(|&pid| pid != 1);
    pids.sort_unstable();
    pids
}

fn uptime() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().and_then(|s| s.parse().ok()).unwrap_or_default()
}

/// Fields of `/proc/<pid>/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    user: u64,
    system: u64,
    started: u64,
    resident: u64,
}

/// Reads `/proc/<pid>/stat`; the name may hold anything, also parentheses.
fn stat(text: &str) -> Option<Stat> {
    let (head, tail) = text.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<u64> =
        tail.split_ascii_whitespace().skip(1).map(|f| f.parse().unwrap_or(0)).collect();
    // Field numbers of proc(5), less the four that are cut off here.
    let field = |number: usize| fields.get(number - 4).copied();
    Some(Stat {
        name,
        user: field(14)?,
        system: field(15)?,
        started: field(22)?,
        resident: field(24)?,
    })
}

fn read(pid: i32, uptime: f64, sockets: &HashMap<u64, ListenSocket>) -> Option<Process> {
    let stat = stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    let mut line = Vec::new();
    let file = std::fs::File::open(format!("/proc/{pid}/cmdline")).ok()?;
    file.take(MAX_COMMAND as u64).read_to_end(&mut line).ok()?;
    let directory = std::fs::read_link(format!("/proc/{pid}/cwd"));
    if line.is_empty() && directory.is_err() {
        return None; // a kernel thread
    }
    let text = String::from_utf8_lossy(&line);
    let command = match text.trim_end_matches('\0') {
        "" => format!("[{}]", stat.name),
        words => words.replace('\0', " "),
    };
    let age = (uptime - stat.started as f64 / TICKS as f64).max(0.0);
    let used = (stat.user + stat.system) as f64 / TICKS as f64;
    Some(Process {
        pid,
        stime: stat.system / TICKS,
        rtime: age as u64,
        command,
        directory: directory.map(|d| d.to_string_lossy().into_owned()).unwrap_or_default(),
        cpu: if age > 0.0 { (used / age * 100.0).round() as u64 } else { 0 },
        rss: stat.resident.saturating_mul(PAGE),
        listen_sockets: sockets_of(pid, sockets),
    })
}

/// Listening sockets of all processes by inode.
fn listening_sockets() -> HashMap<u64, ListenSocket> {
    let mut sockets = HashMap::new();
    // An unconnected UDP socket is in state 7 (TCP_CLOSE).
    for (proto, state) in [("tcp", 10), ("tcp6", 10), ("udp", 7), ("udp6", 7)] {
        let Ok(file) = std::fs::File::open(format!("/proc/net/{proto}")) else { continue };
        let mut text = String::new();
        let _ = file.take(1 << 20).read_to_string(&mut text);
        for socket in text.lines().filter_map(listeners::row).filter(|s| s.state == state) {
            let address = match socket.address {
                IpAddr::V4(v4) => format!("{v4}:{}", socket.port),
                IpAddr::V6(v6) => format!("[{v6}]:{}", socket.port),
            };
            sockets.insert(socket.inode, ListenSocket { proto: proto.to_owned(), address });
        }
    }
    sockets
}

fn sockets_of(pid: i32, sockets: &HashMap<u64, ListenSocket>) -> Vec<ListenSocket> {
    if sockets.is_empty() {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let inode = |link: &str| -> Option<u64> {
        link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    let mut found: Vec<ListenSocket> = entries
        .flatten()
        .take(MAX_DESCRIPTORS)
        .filter_map(|e| sockets.get(&inode(std::fs::read_link(e.path()).ok()?.to_str()?)?).cloned())
        .take(MAX_SOCKETS)
        .collect();
    found.sort_by(|a, b| (&a.proto, &a.address).cmp(&(&b.proto, &b.address)));
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let text =
            "42 (a ) S (b) S 1 42 42 0 -1 4194560 100 0 0 0 7 3 0 0 20 0 1 0 5000 1000000 25 1844";
        let want =
            Stat { name: "a ) S (b".into(), user: 7, system: 3, started: 5000, resident: 25 };
        assert_eq!(stat(text), Some(want));
        assert_eq!(stat("nonsense"), None);
    }

    #[test]
    fn this_process_is_listed_with_its_sockets() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let sockets = listening_sockets();
        let me = i32::try_from(std::process::id()).unwrap();
        let process = read(me, uptime(), &sockets).unwrap();
        assert!(process.listen_sockets.contains(&ListenSocket { proto: "tcp".into(), address }));
        assert!(process.rss > 0 && process.command.contains("updraft"), "{process:?}");
    }
}
