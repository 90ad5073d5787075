//! TCP ports on which something listens, from `/proc/net/tcp` and `tcp6`.
//!
//! The kernel lists listening sockets before all others, so a scan stops at the
//! first that does not listen, however many connections there are.

use guest_protocol::{API_ADDRESS, API_PORT, Listener};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Bytes that are read of a table: more listeners than any app has.
const MAX_TABLE: u64 = 4 << 20;
/// Listeners that are reported to a host when it connects: as many as it keeps, and few
/// enough for one frame.
const MAX_REPORTED: usize = 1024;
/// Delays of the scans after an event. The trace event is written a moment before
/// the socket is in the table (the state is set first, the hash after it).
const SCAN_DELAYS: [Duration; 3] =
    [Duration::from_millis(2), Duration::from_millis(20), Duration::from_millis(150)];

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    /// Local address.
    pub(crate) address: IpAddr,
    /// Local port.
    pub(crate) port: u16,
    /// The kernel's number of its state.
    pub(crate) state: u8,
    /// Inode, by which its process is found in `/proc`.
    pub(crate) inode: u64,
}

/// Number of TCP_LISTEN.
const LISTEN: u8 = 10;

/// Reads one row of `/proc/net/{tcp,tcp6,udp,udp6}`; `None` for the heading.
pub(crate) fn row(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let state = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
    let inode = fields.nth(5)?.parse().ok()?;
    // Each 32-bit word is printed in the byte order of the machine.
    let word = |at: usize| {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.as_flattened().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(Socket { address, port, state, inode })
}

/// Whether connections to the machine's private IPv4 address get to `address`.
/// An IPv6-only `[::]` looks like a dual-stack one here; nearly all are
/// dual-stack.
fn reachable(address: IpAddr, own: Option<Ipv4Addr>) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_unspecified() || Some(v4) == own,
        IpAddr::V6(v6) => v6.is_unspecified(),
    }
}

fn scan_table(table: impl Read, own: Option<Ipv4Addr>, into: &mut BTreeMap<u16, bool>) {
    for line in BufReader::new(table.take(MAX_TABLE)).lines().skip(1) {
        match line.ok().as_deref().and_then(row) {
            // Init's own.
            Some(Socket { address: IpAddr::V6(API_ADDRESS), port: API_PORT, .. }) => {}
            Some(socket) if socket.state == LISTEN => {
                *into.entry(socket.port).or_default() |= reachable(socket.address, own);
            }
            _ => return,
        }
    }
}

/// The listeners that were reported to the host, and when to scan next.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    own: Option<Ipv4Addr>,
    reported: BTreeMap<u16, bool>,
    /// When to scan next, latest first.
    scans: Vec<Instant>,
    /// Scan at this interval: the kernel does not announce changes.
    interval: Option<Duration>,
    /// The main process runs or is about to.
    active: bool,
}

impl Listeners {
    /// Scans from now on; `own` is the machine's address.
    pub(crate) fn begin(&mut self, own: Option<Ipv4Addr>) {
        self.own = own;
        self.active = true;
        self.on_change();
    }

    /// Scans at an interval, since changes are not announced.
    pub(crate) fn scan_every(&mut self, interval: Duration) {
        self.interval = Some(interval);
        self.on_change();
    }

    /// Something began or ceased to listen. However often it does, scans are at
    /// least as far apart as the shortest of [`SCAN_DELAYS`].
    pub(crate) fn on_change(&mut self) {
        if !self.active {
            return;
        }
        let now = Instant::now();
        let soon = self.scans.pop().unwrap_or(now + SCAN_DELAYS[0]).min(now + SCAN_DELAYS[0]);
        self.scans = vec![now + SCAN_DELAYS[2], now + SCAN_DELAYS[1], soon];
    }

    /// When [`Listeners::scan`] is due.
    pub(crate) fn next_scan(&self) -> Option<Instant> {
        self.scans.last().copied()
    }

    /// The listeners as last reported, at most [`MAX_REPORTED`]; reachable ones first.
    pub(crate) fn all(&self) -> Vec<Listener> {
        let of = |wanted: bool| self.reported.iter().filter(move |(_, now)| **now == wanted);
        let all = of(true).chain(of(false)).take(MAX_REPORTED);
        all.map(|(&port, &reachable)| Listener { port, reachable }).collect()
    }

    /// Scans, and returns what has changed since the last report to the host.
    pub(crate) fn scan(&mut self) -> Vec<(Listener, bool)> {
        self.scans.pop();
        if let (true, Some(interval)) = (self.scans.is_empty(), self.interval) {
            self.scans.push(Instant::now() + interval);
        }
        let mut now = BTreeMap::new();
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            if let Ok(file) = std::fs::File::open(table) {
                scan_table(file, self.own, &mut now);
            }
        }
        self.changes(now)
    }

    /// Ends all scans; returns the listeners that the host still has to forget.
    pub(crate) fn end(&mut self) -> Vec<(Listener, bool)> {
        self.active = false;
        self.scans.clear();
        self.changes(BTreeMap::new())
    }

    fn changes(&mut self, now: BTreeMap<u16, bool>) -> Vec<(Listener, bool)> {
        let differs = |from: &BTreeMap<u16, bool>, to: &BTreeMap<u16, bool>, began| {
            let rows = from.iter().filter(|(port, reachable)| to.get(port) != Some(reachable));
            rows.map(|(&port, &reachable)| (Listener { port, reachable }, began))
                .collect::<Vec<_>>()
        };
        let mut changes = differs(&self.reported, &now, false);
        changes.extend(differs(&now, &self.reported, true));
        self.reported = now;
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 16409 1 0000000000000000 100 0 0 10 0\n\
   1: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 16410 1 0000000000000000 100 0 0 10 0\n\
   2: 0200A8C0:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 16411 1 0000000000000000 100 0 0 10 0\n\
   3: 0200A8C0:1F90 0100A8C0:9C40 01 00000000:00000000 00:00000000 00000000     0        0 16412 1 0000000000000000 20 4 30 10 -1\n\
   4: 00000000:FFFF 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0000000000000000 100 0 0 10 0\n";
    const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 5 1 0 100 0 0 10 0\n\
   1: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 6 1 0 100 0 0 10 0\n\
   2: 0000AAFD000000000000000080420000:10B8 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 8 1 0 100 0 0 10 0\n\
   3: 0000000000000000FFFF00000200A8C0:0051 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0 100 0 0 10 0\n";

    #[test]
    fn rows_read_as_the_kernel_writes_them() {
        let rows: Vec<_> = TCP.lines().filter_map(row).collect();
        assert_eq!(rows.len(), 5);
        assert_eq!(
            rows[2],
            Socket {
                address: Ipv4Addr::new(192, 168, 0, 2).into(),
                port: 80,
                state: 10,
                inode: 16411
            }
        );
        assert_eq!(row("garbage"), None);
        assert_eq!(row("0: zz:1 00:0 0A 0 0 0 0 0 1"), None);
    }

    #[test]
    fn listeners_are_reachable_or_not_and_the_rest_of_the_table_is_not_read() {
        let own = Some(Ipv4Addr::new(192, 168, 0, 2));
        let mut now = BTreeMap::new();
        scan_table(TCP.as_bytes(), own, &mut now);
        scan_table(TCP6.as_bytes(), own, &mut now);
        let want = [(22, false), (80, true), (81, true), (443, true), (8080, true)];
        assert_eq!(now.into_iter().collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_host_that_connects_gets_as_many_listeners_as_it_keeps() {
        let mut listeners = Listeners::default();
        let _ = listeners.changes((1..=u16::MAX).map(|port| (port, port > 64_000)).collect());
        let all = listeners.all();
        assert_eq!(all.len(), MAX_REPORTED);
        assert!(all.iter().all(|listener| listener.reachable && listener.port > 64_000));
        let _ = listeners.changes([(22, false), (80, true)].into());
        let ports: Vec<_> = listeners.all().iter().map(|listener| listener.port).collect();
        assert_eq!(ports, [80, 22]);
    }

    #[test]
    fn changes_are_reported_once() {
        let mut listeners = Listeners::default();
        let port = |port, reachable| Listener { port, reachable };
        assert_eq!(listeners.changes([(80, true)].into()), [(port(80, true), true)]);
        assert_eq!(listeners.changes([(80, true)].into()), []);
        assert_eq!(
            listeners.changes([(80, false)].into()),
            [(port(80, true), false), (port(80, false), true)]
        );
        assert_eq!(listeners.changes([].into()), [(port(80, false), false)]);
    }
}
