//! Connections that are not those of a peer yet: how many there are, and how long they
//! may take.

use rt::PeerLimits;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// Time for TLS, and after it for the preface of HTTP/2. The client gives a connection as
/// long in all.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(3);
/// Handshakes at a time.
const MOST: usize = 512;
/// Handshakes at a time of one source: an IPv4 address or an IPv6 /64.
const MOST_OF_SOURCE: usize = 64;
/// Length of the preface of HTTP/2 (RFC 9113, 3.4).
const PREFACE: usize = 24;

/// The handshakes that are under way.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    by_source: Mutex<HashMap<Option<IpAddr>, usize>>,
}

impl Handshakes {
    /// A place for one more. `None` if its source, or all, have as many as they may.
    pub(super) fn begin(self: &Arc<Self>, source: Option<IpAddr>) -> Option<Handshake> {
        let source = source.map(network);
        let mut by_source = self.lock();
        let all: usize = by_source.values().sum();
        let of_source = by_source.get(&source).copied().unwrap_or(0);
        // Who may open a socket file is trusted.
        let most = if source.is_some() { MOST_OF_SOURCE } else { MOST };
        if all >= MOST || of_source >= most {
            return None;
        }
        by_source.insert(source, of_source + 1);
        Some(Handshake { of: self.clone(), source })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<IpAddr>, usize>> {
        self.by_source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The source of an address, as far as limits go.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// One handshake that is under way.
#[derive(Debug)]
pub(super) struct Handshake {
    of: Arc<Handshakes>,
    source: Option<IpAddr>,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut by_source = self.of.lock();
        if let Some(count) = by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

/// The limits of a peer: the preface has to come in time, and a write may wait for
/// `write_limit`.
pub(super) struct Preface {
    write_limit: Duration,
    /// Bytes of the preface that are to come, and until when.
    missing: Option<(usize, Pin<Box<Sleep>>)>,
}

impl Preface {
    pub(super) fn new(write_limit: Duration) -> Self {
        Self { write_limit, missing: Some((PREFACE, Box::pin(sleep(HANDSHAKE)))) }
    }
}

impl PeerLimits for Preface {
    fn write_limit(&self) -> Duration {
        self.write_limit
    }

    fn poll_read_limit(&mut self, cx: &mut Context<'_>, bytes: &[u8], waits: bool) -> Poll<()> {
        let Some((missing, time)) = &mut self.missing else { return Poll::Pending };
        *missing = missing.saturating_sub(bytes.len());
        if *missing == 0 {
            self.missing = None;
            return Poll::Pending;
        }
        if waits { time.as_mut().poll(cx) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_has_a_share_of_the_handshakes() {
        let all = Arc::new(Handshakes::default());
        let begin = |source: &str| all.begin(Some(source.parse().unwrap()));
        let mut held: Vec<_> = (0..200).filter_map(|_| begin("192.0.2.1")).collect();
        assert_eq!(held.len(), MOST_OF_SOURCE);
        assert!(begin("::ffff:192.0.2.1").is_none());
        assert!(begin("192.0.2.2").is_some());
        held.extend((0..200).filter_map(|n| begin(&format!("2001:db8::{n:x}"))));
        assert_eq!(held.len(), 2 * MOST_OF_SOURCE, "a /64 is one source");
        held.extend((0..999).filter_map(|n| begin(&format!("198.51.{}.{}", n / 250, n % 250))));
        assert_eq!(held.len(), MOST);
        assert!(all.begin(None).is_none());
        held.clear();
        assert!(all.lock().is_empty(), "counts go with the handshakes");
    }
}
