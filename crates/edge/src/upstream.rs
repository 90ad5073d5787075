//! Connections to machines: one pool per core, HTTP/1.1.
//!
//! Invariant: a connection is used only for the boot of the machine it was made
//! to. A VM that is killed sends no FIN, so the pool forgets, and cuts, all
//! connections of a machine when the table says that it no longer runs. Those
//! that rest are closed sooner: when it begins to go down. A suspended guest
//! then has no connections that only it believes in, and after its resume none
//! of before is used, which might be alive or dead.

use crate::body::{OutBody, Progress};
use crate::errors::Code;
use crate::machine::{Era, Machine};
use crate::metrics::Metrics;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddrV4;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

/// How long a connection rests before it is closed (P025).
const KEEP: Duration = Duration::from_secs(4);
/// Resting connections per machine and core.
const KEEP_MOST: usize = 256;

/// The connections of one core. Its locks are this core's own.
#[derive(Debug)]
pub(crate) struct Pool {
    tasks: rt::Tasks,
    metrics: Metrics,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    idle: HashMap<SocketAddrV4, Vec<Idle>>,
    /// With the epoch each was made in.
    open: HashMap<u64, (Arc<Machine>, u64, AbortHandle)>,
    next: u64,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<OutBody>,
    machine: Arc<Machine>,
    era: Era,
    since: Instant,
}

impl Idle {
    fn is_good(&self) -> bool {
        self.era == self.machine.era()
    }
}

/// A connection in use.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) sender: SendRequest<OutBody>,
    /// It has served a request before, so it may turn out to be closed.
    pub(crate) used: bool,
    pub(crate) progress: Option<Arc<Progress>>,
    pool: Arc<Pool>,
    addr: SocketAddrV4,
    era: Era,
    keep: bool,
}

impl Lease {
    /// Back to the pool, unless it must not be used again.
    pub(crate) fn give_back(self, machine: &Arc<Machine>) {
        let uploaded = self.progress.as_ref().is_none_or(|p| p.ended.load(Relaxed));
        if !self.keep || !uploaded || self.sender.is_closed() || machine.era() != self.era {
            return;
        }
        let mut inner = self.pool.lock();
        let idle = inner.idle.entry(self.addr).or_default();
        if idle.len() < KEEP_MOST {
            let (sender, era) = (self.sender, self.era);
            idle.push(Idle { sender, machine: machine.clone(), era, since: Instant::now() });
        }
    }
}

/// Takes the connection out of the list of open ones when it ends.
struct Open(Arc<Pool>, u64);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().open.remove(&self.1);
        self.0.metrics.upstream_open.dec();
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct NoConnection {
    pub(crate) code: Code,
    pub(crate) why: String,
}

impl Pool {
    pub(crate) fn new(tasks: rt::Tasks, metrics: Metrics) -> Self {
        Self { tasks, metrics, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A resting connection to this boot of the machine, the last used first.
    pub(crate) async fn rested(
        self: &Arc<Self>,
        machine: &Arc<Machine>,
        addr: SocketAddrV4,
    ) -> Option<Lease> {
        loop {
            let mut idle = self.lock().idle.get_mut(&addr)?.pop()?;
            let same = Arc::ptr_eq(&idle.machine, machine) && idle.is_good();
            if same && idle.sender.ready().await.is_ok() {
                let (sender, era, pool) = (idle.sender, idle.era, self.clone());
                let progress = None;
                return Some(Lease { sender, used: true, progress, pool, addr, era, keep: true });
            }
        }
    }

    /// A new connection; `keep` says whether it may be used more than once.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        machine: &Arc<Machine>,
        addr: SocketAddrV4,
        keep: bool,
        limit: Duration,
    ) -> Result<Lease, NoConnection> {
        let era = machine.era();
        let made = tokio::select! {
            biased;
            made = timeout(limit, stream_to(machine, era.epoch, addr)) => made,
            // A VM that is gone answers nothing, and others wait for this one.
            () = machine.epoch_over(era.epoch) => Ok(Err(ErrorKind::ConnectionReset.into())),
        };
        let stream = match made {
            Ok(Ok(stream)) => stream,
            Ok(Err(err)) => return Err(NoConnection::new(addr, &err)),
            Err(_) => return Err(NoConnection::new(addr, &ErrorKind::TimedOut.into())),
        };
        // Best effort: without it small answers are only slower.
        let _ = stream.set_nodelay(true);
        let io = TokioIo::new(EarlyAnswer { stream, broken: false });
        let made = http1::Builder::new().handshake(io).await;
        let (sender, conn) = made.map_err(|err| NoConnection {
            code: Code::Pc06,
            why: format!("{addr}: {}", rt::chain(&err)),
        })?;
        self.metrics.upstream_connects.inc();
        self.metrics.upstream_open.inc();
        let mut inner = self.lock();
        inner.next += 1;
        let open = Open(self.clone(), inner.next);
        let id = inner.next;
        let task = self.tasks.spawn(async move {
            let _open = open;
            // How it ended shows at the request that used it.
            let _ = conn.with_upgrades().await;
        });
        // The task cannot have ended yet: this thread is its only runner.
        inner.open.insert(id, (machine.clone(), era.epoch, task.abort_handle()));
        drop(inner);
        let (pool, progress) = (self.clone(), None);
        Ok(Lease { sender, used: false, progress, pool, addr, era, keep })
    }

    /// Cuts connections to machines that no longer run, or run anew, and closes
    /// those that rest and must not be used again.
    pub(crate) fn cut_stale(&self) {
        let mut inner = self.lock();
        inner.idle.retain(|_, idle| {
            idle.retain(Idle::is_good);
            !idle.is_empty()
        });
        for (machine, epoch, task) in inner.open.values() {
            if machine.epoch() != *epoch {
                task.abort();
            }
        }
    }

    /// Closes connections that have rested too long.
    pub(crate) fn sweep(&self) {
        let mut inner = self.lock();
        inner.idle.retain(|_, idle| {
            idle.retain(|i| i.since.elapsed() < KEEP && i.is_good());
            !idle.is_empty()
        });
    }
}

/// A stream to a machine. Until one has been made since it came up, only one
/// request at a time tries: many SYNs would meet a guest that cannot take them
/// yet, fill its queue, and be repeated by the kernel only after a second.
async fn stream_to(machine: &Machine, epoch: u64, addr: SocketAddrV4) -> io::Result<TcpStream> {
    if !machine.is_reached(epoch) {
        let _first = machine.first.lock().await;
        if !machine.is_reached(epoch) {
            let stream = connect_beside(addr).await?;
            machine.note_reached(epoch);
            return Ok(stream);
        }
    }
    TcpStream::connect(addr).await
}

/// Connects, and once more beside while nobody has answered: after 20 ms, 40 ms
/// and so on, since a guest that has just been resumed may lose a SYN. What was
/// begun goes on, since a guest that is slow will answer it. The first to be made
/// or refused counts.
async fn connect_beside(addr: SocketAddrV4) -> io::Result<TcpStream> {
    let mut pause = Duration::from_millis(20);
    let mut begun = JoinSet::new();
    loop {
        begun.spawn(TcpStream::connect(addr));
        match timeout(pause, begun.join_next()).await {
            Ok(Some(Ok(done))) => return done,
            // One that panicked is as good as lost.
            Ok(_) | Err(_) => pause *= 2,
        }
    }
}

impl NoConnection {
    fn new(addr: SocketAddrV4, err: &io::Error) -> Self {
        let code = match err.kind() {
            ErrorKind::ConnectionRefused => Code::Pc01,
            ErrorKind::ConnectionReset => Code::Pc03,
            ErrorKind::TimedOut => Code::Pc05,
            _ => Code::Pc06,
        };
        Self { code, why: format!("connect to {addr}: {err}") }
    }
}

/// A stream that does not fail when its peer stops reading.
///
/// An app may answer an upload early and close. hyper would then report the
/// failed write and lose the answer that is already on its way; so writes after
/// the first failure vanish, and what counts is what can still be read.
#[derive(Debug)]
struct EarlyAnswer {
    stream: TcpStream,
    broken: bool,
}

impl EarlyAnswer {
    fn forgive<T>(&mut self, done: Poll<io::Result<T>>, instead: T) -> Poll<io::Result<T>> {
        match done {
            Poll::Ready(Err(err))
                if matches!(err.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
            {
                self.broken = true;
                Poll::Ready(Ok(instead))
            }
            done => done,
        }
    }
}

impl AsyncRead for EarlyAnswer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for EarlyAnswer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.broken {
            return Poll::Ready(Ok(buf.len()));
        }
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.forgive(done, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = bufs.iter().map(|buf| buf.len()).sum();
        if self.broken {
            return Poll::Ready(Ok(all));
        }
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.forgive(done, all)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(cx);
        self.forgive(done, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.forgive(done, ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

    fn socket() -> (TcpSocket, SocketAddrV4) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let std::net::SocketAddr::V4(addr) = socket.local_addr().unwrap() else { unreachable!() };
        (socket, addr)
    }

    /// A listener that drops SYNs, and how many it has not accepted yet.
    async fn full() -> (TcpListener, SocketAddrV4, Vec<TcpStream>) {
        let (socket, addr) = socket();
        let (listener, mut full) = (socket.listen(1).unwrap(), Vec::new());
        let most = Duration::from_millis(100);
        while let Ok(Ok(taken)) = timeout(most, TcpStream::connect(addr)).await {
            full.push(taken);
        }
        (listener, addr, full)
    }

    #[tokio::test]
    async fn a_syn_that_was_lost_is_followed_by_another_long_before_the_kernel_repeats_it() {
        let (listener, addr, full) = full().await;
        let began = Instant::now();
        let accept = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            for _ in 0..=full.len() {
                drop(listener.accept().await.unwrap());
            }
        };
        let (stream, ()) = tokio::join!(connect_beside(addr), accept);
        assert!(stream.is_ok());
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_refusal_is_told() {
        let (_bound, addr) = socket();
        assert_eq!(connect_beside(addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn who_connects_to_a_machine_that_goes_down_does_not_keep_those_who_follow_waiting() {
        let (_listener, addr, _full) = full().await;
        let machine =
            Arc::new(Machine::new("m1", Arc::new(crate::table::tests::app_shared("web"))));
        let metrics = Metrics::new(&mut Default::default(), &Arc::new(crate::table::Cell::new()));
        let pool = Arc::new(Pool::new(rt::Tasks::new(), metrics));
        let hour = Duration::from_secs(3600);
        let (first, ()) = tokio::join!(pool.connect(&machine, addr, true, hour), async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(machine.first.try_lock().is_err(), "one at a time");
            machine.bump_epoch();
        });
        assert_eq!(first.unwrap_err().code, Code::Pc03);
        assert!(machine.first.try_lock().is_ok());
    }
}
