//! The cores: each serves its share of the client connections on one runtime,
//! usually a thread of its own.

use crate::http::body::OpenBodies;
use crate::http::headers;
use crate::http::serve::{Client, serve};
use crate::listen::client_io::client_io;
use crate::listen::heartbeat::Heartbeats;
use crate::shared::{Core, Shared};
use crate::table::shared::CachedTable;
use crate::upstream::pool::Pool;
use host_api::GuestStream;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

/// Connections accepted and not yet taken up by the core.
const BACKLOG: usize = 1024;
/// How long a connection without a request may take for its close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection on its way to a core.
pub(crate) struct Accepted {
    pub(crate) stream: ClientStream,
    pub(crate) client: Arc<Client>,
}

/// A client's byte stream.
pub(crate) enum ClientStream {
    Tcp(std::net::TcpStream),
    /// Anything else, such as a stream in memory.
    Other(Box<dyn GuestStream>),
}

/// Starts a core on a thread of its own. What is received ends when the core has
/// ended.
pub(crate) fn start_core(
    shared: Arc<Shared>,
    number: usize,
    beats: Arc<Heartbeats>,
) -> io::Result<(mpsc::Sender<Accepted>, oneshot::Receiver<()>)> {
    let (give, take) = mpsc::channel(BACKLOG);
    let (ended, end) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("edge-{number}")).spawn(move || {
        let beat = Some(beats.run(number));
        runtime.block_on(run_core(shared, take, beat));
        // The edge's starter may be gone.
        let _ = ended.send(());
    })?;
    Ok((give, end))
}

/// Starts a core on the runtime of the caller.
pub(crate) fn start_core_here(shared: Arc<Shared>) -> mpsc::Sender<Accepted> {
    let (give, take) = mpsc::channel(BACKLOG);
    // The runtime's own watchdog watches it.
    let beat = None::<std::future::Pending<()>>;
    shared.tasks.clone().spawn(run_core(shared, take, beat));
    give
}

async fn run_core(
    shared: Arc<Shared>,
    mut accepted: mpsc::Receiver<Accepted>,
    beat: Option<impl Future<Output = ()> + Send + 'static>,
) {
    let mut stopping = std::pin::pin!(shared.tasks.stopping());
    let tasks = rt::Tasks::new();
    // Client connections are their own group: upstream ones must outlive them.
    let clients = rt::Tasks::new();
    let (metrics, budget) = (shared.metrics.clone(), shared.upstream.clone());
    let core = Arc::new(Core {
        pool: Arc::new(Pool::new(tasks.clone(), metrics, budget)),
        bodies: OpenBodies::default(),
        clients: clients.clone(),
        table: CachedTable::new(shared.table.clone()),
        rng: rt::Rng::from_os(),
        region: headers::value(shared.config.region.clone()),
        server: headers::value(shared.config.server.clone()),
        shared,
        tasks,
    });
    core.tasks.spawn_until_stop(core.clone().run_maintenance());
    beat.map(|beat| core.tasks.spawn_until_stop(beat));
    loop {
        let next = tokio::select! {
            biased;
            () = &mut stopping => break,
            next = accepted.recv() => next,
        };
        let Some(next) = next else { break };
        clients.spawn(connection(core.clone(), clients.clone(), next));
    }
    let drain = core.shared.config.drain;
    if !clients.shutdown(drain).await {
        tracing::info!("requests still in flight after {drain:?} are cut off");
    }
    core.tasks.shutdown(Duration::from_millis(100)).await;
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

async fn connection(core: Arc<Core>, group: rt::Tasks, accepted: Accepted) {
    let shared = core.shared.clone();
    let Accepted { stream, client } = accepted;
    match stream {
        ClientStream::Tcp(stream) => {
            if let Ok(stream) = TcpStream::from_std(stream) {
                serve_stream(core, group, stream, client).await;
            }
        }
        ClientStream::Other(stream) => serve_stream(core, group, stream, client).await,
    }
    shared.metrics.disconnects.inc();
}

async fn serve_stream(
    core: Arc<Core>,
    group: rt::Tasks,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    client: Arc<Client>,
) {
    let builder = protocol(&core.shared, group.clone());
    let (idle, opening) = (core.shared.config.idle_timeout, core.shared.config.header_timeout);
    let connection = client.place.connection.clone();
    let service = service_fn(move |request| {
        let answer = serve(core.clone(), client.clone(), request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let io = TokioIo::new(client_io(stream, idle, opening, connection.clone()));
    let conn = builder.serve_connection_with_upgrades(io, service);
    let mut conn = std::pin::pin!(conn);
    let ended = tokio::select! {
        biased;
        ended = conn.as_mut() => ended,
        () = group.stopping() => {
            conn.as_mut().graceful_shutdown();
            conn.await
        }
        () = connection.is_to_close(idle) => {
            conn.as_mut().graceful_shutdown();
            tokio::select! {
                _ = conn => {}
                // A client that does not take part in the close is cut, but no request
                // that it sent before it knew of the close.
                () = connection.is_unused_for(CLOSE_TIMEOUT) => {}
            }
            return;
        }
    };
    if let Err(err) = ended {
        tracing::trace!(%err, "client connection ended");
    }
}

fn protocol(shared: &Shared, tasks: rt::Tasks) -> auto::Builder<Spawner> {
    /// What a stream and a connection may have sent before the app takes it: every
    /// connection of a client can make the edge hold this much.
    const STREAM_WINDOW: u32 = 256 << 10;
    const CONNECTION_WINDOW: u32 = 1 << 20;
    /// What of an answer may wait in memory, per stream, until the client's connection
    /// takes it. A client may have many streams and read nothing.
    const SEND_BUFFER: usize = 64 << 10;
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
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(250)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(config.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::testing::shared;
    use bytes::Bytes;
    use hyper::body::{Body, Frame};
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::{Context, Poll};
    use tokio::io::AsyncWriteExt;

    /// An endless body that counts the bytes that are taken of it.
    struct Endless(Arc<AtomicUsize>);

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            const PIECE: &[u8] = &[7; 16 << 10];
            self.0.fetch_add(PIECE.len(), SeqCst);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PIECE)))))
        }
    }

    /// Frames of a client that grants the largest windows (RFC 9113, 6.5.2 and 6.9) and
    /// asks for `/`.
    const GREEDY: [&[u8]; 5] = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff",
        b"\0\0\x04\x08\0\0\0\0\0\x7f\xff\0\0",
        b"\0\0\x06\x01\x05\0\0\0\x01",
        b"\x82\x86\x84\x41\x01a",
    ];

    #[tokio::test(start_paused = true)]
    async fn little_of_an_answer_waits_for_an_http2_client_that_does_not_read() {
        let taken = Arc::new(AtomicUsize::new(0));
        let service = service_fn(|_: hyper::Request<hyper::body::Incoming>| {
            let body = Endless(taken.clone());
            async move { Ok::<_, Infallible>(hyper::Response::new(body)) }
        });
        let (mut client, edge) = tokio::io::duplex(16 << 10);
        client.write_all(&GREEDY.concat()).await.unwrap();
        let builder = protocol(&shared(9), rt::Tasks::new());
        let served = builder.serve_connection(TokioIo::new(edge), service);
        let while_silent = tokio::time::timeout(Duration::from_secs(5), served);
        assert!(while_silent.await.is_err(), "it waits for the client");
        let taken = taken.load(SeqCst);
        assert!(taken > 0, "the request is answered");
        assert!(taken <= 160 << 10, "{taken} bytes are taken from the app");
    }
}
