//! All client connections: how many there are, of which source, and which has
//! been idle for longest.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Idle connections that are closed at once when room is needed: finding them
/// looks at all connections.
const EVICTED_AT_ONCE: usize = 32;

/// The places of client connections.
#[derive(Debug)]
pub(crate) struct Connections {
    max: usize,
    max_per_source: usize,
    born: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    /// Those that are being closed count until they are.
    all: HashMap<u64, Arc<Connection>>,
    /// How many of them are being closed to make room.
    closing: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One client connection.
#[derive(Debug)]
pub(crate) struct Connection {
    born: Instant,
    /// Requests and tunnels under way.
    open: AtomicUsize,
    /// Milliseconds after `born` at which it last had one.
    active_ms: AtomicU64,
    is_http2: AtomicBool,
    /// Notified when the last request ends, and when it is to be closed.
    changed: Notify,
    /// It makes room for another.
    closing: AtomicBool,
}

/// Why a connection gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The source has as many as it may have.
    Source,
    /// All are in use.
    All,
}

impl Connections {
    pub(crate) fn new(max: usize, max_per_source: Option<usize>) -> Self {
        let max_per_source = max_per_source.unwrap_or(max / 8).max(1);
        Self { max: max.max(1), max_per_source, born: Instant::now(), inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `peer`; with it the number of idle
    /// connections that are closed for it.
    pub(crate) fn take(self: &Arc<Self>, peer: IpAddr) -> Result<(Arc<Place>, usize), Full> {
        let source = source_of(peer);
        let mut inner = self.lock();
        let of_source = inner.by_source.get(&source).copied().unwrap_or(0);
        if of_source >= self.max_per_source && !source.is_loopback() {
            return Err(Full::Source);
        }
        let sockets_left = with_closing(self.max).saturating_sub(inner.all.len());
        let is_at_limit = inner.all.len() - inner.closing >= self.max;
        let evicted = if is_at_limit { inner.evict(sockets_left) } else { 0 };
        if sockets_left == 0 || (is_at_limit && evicted == 0) {
            return Err(Full::All);
        }
        inner.next += 1;
        let id = inner.next;
        let connection = Arc::new(Connection {
            born: self.born,
            open: AtomicUsize::new(0),
            active_ms: AtomicU64::new(0),
            is_http2: AtomicBool::new(false),
            changed: Notify::new(),
            closing: AtomicBool::new(false),
        });
        connection.mark_active();
        inner.all.insert(id, connection.clone());
        *inner.by_source.entry(source).or_default() += 1;
        let place = Place { of: self.clone(), id, source, connection };
        Ok((Arc::new(place), evicted))
    }
}

impl Inner {
    /// Begins to close the connections that have been idle for longest, at most `most`.
    /// They count as closing until their ends.
    fn evict(&mut self, most: usize) -> usize {
        let mut idle: Vec<(u64, u64)> = self
            .all
            .iter()
            .filter(|(_, c)| c.open.load(SeqCst) == 0 && !c.closing.load(SeqCst))
            .map(|(id, c)| (c.active_ms.load(SeqCst), *id))
            .collect();
        let count = idle.len().min(EVICTED_AT_ONCE).min(most);
        if count == 0 {
            return 0;
        }
        idle.select_nth_unstable(count - 1);
        for connection in idle[..count].iter().filter_map(|(_, id)| self.all.get(id)) {
            connection.close();
        }
        self.closing += count;
        count
    }
}

/// Where a connection comes from, as far as limits go.
fn source_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(addr) if !addr.is_loopback() => {
            let [a, b, c, d, ..] = addr.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        addr => addr,
    }
}

/// A connection's place, given back when it is dropped: with the connection, or with the
/// last request or tunnel that came over it.
#[derive(Debug)]
pub(crate) struct Place {
    of: Arc<Connections>,
    id: u64,
    source: IpAddr,
    pub(crate) connection: Arc<Connection>,
}

impl Place {
    /// A request has come.
    pub(crate) fn begin_request(self: &Arc<Self>, is_http2: bool) -> OpenRequest {
        self.connection.open.fetch_add(1, SeqCst);
        if is_http2 {
            self.connection.set_http2();
        }
        OpenRequest(self.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.of.lock();
        let removed = inner.all.remove(&self.id);
        if removed.is_some_and(|connection| connection.closing.load(SeqCst)) {
            inner.closing -= 1;
        }
        if let Some(count) = inner.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                inner.by_source.remove(&self.source);
            }
        }
    }
}

impl Connection {
    fn mark_active(&self) {
        let ms = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active_ms.store(ms, SeqCst);
    }

    fn close(&self) {
        self.closing.store(true, SeqCst);
        self.changed.notify_one();
    }

    /// It uses HTTP/2: nothing else bounds how long it may be idle.
    pub(crate) fn set_http2(&self) {
        if !self.is_http2.swap(true, SeqCst) {
            self.changed.notify_one();
        }
    }

    /// Returns once the connection is to be closed: it makes room for another, or
    /// uses HTTP/2 and has been without a request for `idle`.
    pub(crate) async fn is_to_close(&self, idle: Duration) {
        loop {
            if self.closing.load(SeqCst) {
                return;
            }
            let counts = self.is_http2.load(SeqCst) && self.open.load(SeqCst) == 0;
            if !counts {
                self.changed.notified().await;
                continue;
            }
            let active = Duration::from_millis(self.active_ms.load(SeqCst));
            let left = idle.saturating_sub(self.born.elapsed().saturating_sub(active));
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}

impl Connection {
    /// Returns once the connection has been without a request for `time` from now on.
    pub(crate) async fn is_unused_for(&self, time: Duration) {
        loop {
            let is_used = || self.open.load(SeqCst) > 0;
            if is_used() {
                self.changed.notified().await;
                continue;
            }
            tokio::select! {
                // A request has ended.
                () = self.changed.notified() => {}
                () = tokio::time::sleep(time) => {
                    if !is_used() {
                        return;
                    }
                }
            }
        }
    }
}

/// A request or tunnel under way on a client's connection.
#[derive(Debug)]
pub(crate) struct OpenRequest(Arc<Place>);

impl Clone for OpenRequest {
    fn clone(&self) -> Self {
        self.0.connection.open.fetch_add(1, SeqCst);
        Self(self.0.clone())
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let connection = &self.0.connection;
        connection.mark_active();
        // HTTP/1 ends by itself: its end matters only while the connection makes room.
        let is_watched = || connection.is_http2.load(SeqCst) || connection.closing.load(SeqCst);
        if connection.open.fetch_sub(1, SeqCst) == 1 && is_watched() {
            connection.changed.notify_one();
        }
    }
}

/// Sockets that `max` connections have at most, with those that are being closed to make
/// room: their clients take up to seconds for it.
fn with_closing(max: usize) -> usize {
    max.saturating_add(max.div_ceil(8))
}

/// Client connections, and as many connections to machines, that the process's limit of
/// open files leaves room for after a quarter of it, at least 256, which API, store, images
/// and guests need. An eighth of the client connections is for those being closed.
pub(crate) fn allowed_by_open_files(open_files: u64) -> usize {
    let left = open_files.saturating_sub((open_files / 4).max(256));
    usize::try_from(left / 17 * 8).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn open_files_leave_a_reserve() {
        for (limit, allowed) in [(1024, 360), (512, 120), (300, 16), (100, 1), (20_000, 7_056)] {
            assert_eq!(allowed_by_open_files(limit), allowed, "{limit}");
            let sockets = with_closing(allowed) + allowed;
            assert!(limit == 100 || sockets as u64 + 256 <= limit, "{limit}: {sockets}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_limit_the_longest_idle_makes_room() {
        let all = Arc::new(Connections::new(3, Some(9)));
        let mut places = Vec::new();
        for n in 1..=3 {
            places.push(all.take(ip(&format!("192.0.2.{n}"))).unwrap().0);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let busy = places[0].begin_request(false);
        let (fourth, evicted) = all.take(ip("192.0.2.4")).unwrap();
        assert_eq!(evicted, 1);
        places[1].connection.is_to_close(Duration::MAX).await;
        let open = places[2].begin_request(false);
        assert_eq!(
            all.take(ip("192.0.2.5")).unwrap_err(),
            Full::All,
            "the one that makes room is not closed yet"
        );
        drop(places.remove(1));
        let (fifth, _) = all.take(ip("192.0.2.5")).unwrap();
        let _open = fifth.begin_request(false);
        drop(fourth);
        assert_eq!(all.take(ip("192.0.2.6")).unwrap_err(), Full::All);
        drop((busy, open));
        assert!(all.take(ip("192.0.2.6")).is_ok());
        drop(places);
        let inner = all.lock();
        assert_eq!((inner.by_source.len(), inner.closing), (1, 0), "counts go with the places");
    }

    #[tokio::test]
    async fn one_source_has_a_share() {
        let all = Arc::new(Connections::new(16, None));
        let take = |peer: &str| all.take(ip(peer)).map(|(place, _)| place);
        let _one = (take("192.0.2.1").unwrap(), take("192.0.2.1").unwrap());
        assert_eq!(take("192.0.2.1").unwrap_err(), Full::Source);
        assert_eq!(take("::ffff:192.0.2.1").unwrap_err(), Full::Source);
        let _six = (take("2001:db8::1").unwrap(), take("2001:db8::2").unwrap());
        assert_eq!(take("2001:db8:0:0:9::3").unwrap_err(), Full::Source);
        assert!(take("2001:db8:0:1::1").is_ok());
        let local: Vec<_> = (0..8).map(|_| take("127.0.0.1").unwrap()).collect();
        assert_eq!(local.len(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn an_http2_connection_without_requests_is_closed_after_a_while() {
        let all = Arc::new(Connections::new(3, None));
        let (place, _) = all.take(ip("127.0.0.1")).unwrap();
        let connection = &place.connection;
        let began = Instant::now();
        let minute = Duration::from_secs(60);
        let requests = async {
            let first = place.begin_request(true);
            tokio::time::sleep(minute * 5).await;
            drop(first);
            tokio::time::sleep(minute / 2).await;
            drop(place.begin_request(true));
        };
        tokio::join!(connection.is_to_close(minute), requests);
        assert_eq!(began.elapsed(), minute * 6 + minute / 2);
    }
}
