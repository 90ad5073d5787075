//! Which TCP ports something listens on, from `/proc/net/tcp` and `tcp6`.
//!
//! The kernel lists listening sockets before all others, so a reading stops at
//! the first that does not listen, however many connections there are.

use guest_protocol::Listener;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// More lines of listeners than any app has.
const MOST: u64 = 4 << 20;
/// The trace event comes a moment before the socket is in the table (the state
/// is set first, the hash comes after), so look again, soon and then later.
const LOOK_AGAIN: [Duration; 3] =
    [Duration::from_millis(2), Duration::from_millis(20), Duration::from_millis(150)];

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    /// Local address.
    pub(crate) address: IpAddr,
    /// Local port.
    pub(crate) port: u16,
    /// Kernel's number of the state; 10 listens.
    pub(crate) state: u8,
    /// Inode, by which its process is found.
    pub(crate) inode: u64,
}

/// Number of TCP_LISTEN.
const LISTEN: u8 = 10;

/// Reads one row of `/proc/net/{tcp,tcp6,udp,udp6}`; the heading is none.
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
/// An IPv6-only `[::]` cannot be told from a dual-stack one here; nearly all are
/// dual-stack.
fn reachable(address: IpAddr, own: Option<Ipv4Addr>) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_unspecified() || Some(v4) == own,
        IpAddr::V6(v6) => v6.is_unspecified(),
    }
}

fn scan_table(table: impl Read, own: Option<Ipv4Addr>, into: &mut BTreeMap<u16, bool>) {
    for line in BufReader::new(table.take(MOST)).lines().skip(1) {
        match line.ok().as_deref().and_then(row) {
            Some(socket) if socket.state == LISTEN => {
                *into.entry(socket.port).or_default() |= reachable(socket.address, own);
            }
            _ => return,
        }
    }
}

/// What listens, what the host has been told, and when to look again.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    own: Option<Ipv4Addr>,
    told: BTreeMap<u16, bool>,
    /// When to look next, latest first.
    looks: Vec<Instant>,
    /// Look at this interval: nothing announces changes.
    polled: Option<Duration>,
    /// Before there is an app, and when it has ended, nobody looks.
    looking: bool,
}

impl Listeners {
    /// The machine's own address; looks from now on.
    pub(crate) fn begin(&mut self, own: Option<Ipv4Addr>) {
        self.own = own;
        self.looking = true;
        self.announced();
    }

    /// Announcements are not to be had; look every now and then instead.
    pub(crate) fn poll_every(&mut self, interval: Duration) {
        self.polled = Some(interval);
        self.announced();
    }

    /// Something began or ceased to listen. However often it does, looks are
    /// at least as far apart as the shortest of [`LOOK_AGAIN`].
    pub(crate) fn announced(&mut self) {
        if !self.looking {
            return;
        }
        let now = Instant::now();
        let soon = self.looks.pop().unwrap_or(now + LOOK_AGAIN[0]).min(now + LOOK_AGAIN[0]);
        self.looks = vec![now + LOOK_AGAIN[2], now + LOOK_AGAIN[1], soon];
    }

    /// When [`Listeners::look`] is due.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.looks.last().copied()
    }

    /// All that listen, as last told.
    pub(crate) fn all(&self) -> Vec<Listener> {
        self.told.iter().map(|(&port, &reachable)| Listener { port, reachable }).collect()
    }

    /// Looks, and returns what has changed since the host was last told.
    pub(crate) fn look(&mut self) -> Vec<(Listener, bool)> {
        self.looks.pop();
        if let (true, Some(interval)) = (self.looks.is_empty(), self.polled) {
            self.looks.push(Instant::now() + interval);
        }
        let mut now = BTreeMap::new();
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            if let Ok(file) = std::fs::File::open(table) {
                scan_table(file, self.own, &mut now);
            }
        }
        self.changes(now)
    }

    /// Nothing listens any more, and nothing will: what the host is to be told.
    pub(crate) fn end(&mut self) -> Vec<(Listener, bool)> {
        self.looking = false;
        self.looks.clear();
        self.changes(BTreeMap::new())
    }

    fn changes(&mut self, now: BTreeMap<u16, bool>) -> Vec<(Listener, bool)> {
        let differs = |from: &BTreeMap<u16, bool>, to: &BTreeMap<u16, bool>, began| {
            let rows = from.iter().filter(|(port, reachable)| to.get(port) != Some(reachable));
            rows.map(|(&port, &reachable)| (Listener { port, reachable }, began))
                .collect::<Vec<_>>()
        };
        let mut changes = differs(&self.told, &now, false);
        changes.extend(differs(&now, &self.told, true));
        self.told = now;
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
   2: 0000000000000000FFFF00000200A8C0:0051 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0 100 0 0 10 0\n";

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
    fn changes_are_told_once() {
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
