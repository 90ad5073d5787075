//! Sockets, and one thread with its own runtime per core.
//!
//! One acceptor hands connections out in turn: against `SO_REUSEPORT` this
//! keeps the cores evenly busy with few connections (p99 a third, measured).

use crate::client_io::ClientIo;
use crate::core::{Core, Shared};
use crate::proxy::{Client, serve};
use crate::table::View;
use crate::upstream::Pool;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::TcpStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

type Accepted = (StdStream, Arc<Client>);

/// Starts the thread of one core. What is received ends when the core has ended.
pub(crate) fn start_core(
    shared: Arc<Shared>,
    number: usize,
    stop: rt::Tasks,
) -> io::Result<(mpsc::Sender<Accepted>, oneshot::Receiver<()>)> {
    /// Connections accepted and not yet taken up by the core.
    const BACKLOG: usize = 1024;
    let (give, take) = mpsc::channel(BACKLOG);
    let (ended, end) = oneshot::channel();
    let rng = rt::Rng::from_os();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("edge-{number}")).spawn(move || {
        let tasks = rt::Tasks::new();
        let pool = Arc::new(Pool::new(tasks.clone(), shared.metrics.clone()));
        let view = View::new(shared.cell.clone());
        let core = Arc::new(Core { shared, view, pool, tasks, rng });
        runtime.block_on(run_core(core, take, stop));
        // Whoever started the edge may be gone.
        let _ = ended.send(());
    })?;
    Ok((give, end))
}

async fn run_core(core: Arc<Core>, mut accepted: mpsc::Receiver<Accepted>, stop: rt::Tasks) {
    core.tasks.spawn_until_stop(core.clone().tend());
    // Client connections are their own group: upstream ones must outlive them.
    let clients = rt::Tasks::new();
    let mut stopping = std::pin::pin!(stop.stopping());
    loop {
        let next = tokio::select! {
            biased;
            () = &mut stopping => break,
            next = accepted.recv() => next,
        };
        let Some((stream, client)) = next else { break };
        clients.spawn(connection(core.clone(), clients.clone(), stream, client));
    }
    let drain = core.shared.config.drain;
    if !clients.shutdown(drain).await {
        tracing::info!("requests still in flight after {drain:?} are cut off");
    }
    core.tasks.shutdown(Duration::from_millis(100)).await;
}

/// Gives a connection's place back.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, SeqCst);
        self.0.metrics.disconnects.inc();
    }
}

/// Tasks that hyper starts on this core's runtime.
#[derive(Clone)]
struct Spawner(rt::Tasks);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

async fn connection(core: Arc<Core>, group: rt::Tasks, stream: StdStream, client: Arc<Client>) {
    let _counted = Counted(core.shared.clone());
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let builder = protocol(&core.shared, group.clone());
    let idle = core.shared.config.idle_timeout;
    let service = service_fn(move |request| {
        let answer = serve(core.clone(), client.clone(), request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let io = TokioIo::new(ClientIo::new(stream, idle));
    let conn = builder.serve_connection_with_upgrades(io, service);
    let mut conn = std::pin::pin!(conn);
    let ended = tokio::select! {
        biased;
        ended = conn.as_mut() => ended,
        () = group.stopping() => {
            conn.as_mut().graceful_shutdown();
            conn.await
        }
    };
    if let Err(err) = ended {
        tracing::trace!(%err, "client connection ended");
    }
}

fn protocol(shared: &Shared, tasks: rt::Tasks) -> auto::Builder<Spawner> {
    /// Enough for 100 Mbit/s at 80 ms.
    const WINDOW: u32 = 1 << 20;
    let config = &shared.config;
    let mut builder = auto::Builder::new(Spawner(tasks));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_headers(config.max_headers)
        .max_buf_size(config.max_header_bytes.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4)
        .max_concurrent_streams(250)
        .max_header_list_size(u32::try_from(config.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// Accepts until the edge stops.
pub(crate) async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    ports: Arc<[u16]>,
    cores: Vec<mpsc::Sender<Accepted>>,
) {
    let mut turn = 0;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(err) => {
                tracing::warn!(%err, "accept failed");
                // Out of descriptors: others must end first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        shared.metrics.connects.inc();
        let before = shared.connections.fetch_add(1, SeqCst);
        let counted = Counted(shared.clone());
        if before >= shared.config.max_connections {
            shared.metrics.refused.inc();
            continue;
        }
        // Best effort: without it small answers are only slower.
        let _ = stream.set_nodelay(true);
        let (Ok(local), Ok(stream)) = (stream.local_addr(), stream.into_std()) else { continue };
        let client = Arc::new(Client { peer, local, ports: ports.clone() });
        turn = (turn + 1) % cores.len();
        if cores[turn].send((stream, client)).await.is_ok() {
            // From here on the connection's own task counts it.
            std::mem::forget(counted);
        }
    }
}
