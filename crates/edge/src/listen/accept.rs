//! Accepts connections and hands them to the cores.
//!
//! One acceptor hands connections out in turn: against `SO_REUSEPORT` this keeps
//! the cores evenly busy with few connections (p99 a third, measured).

use crate::http::headers::ClientValues;
use crate::http::serve::Client;
use crate::listen::connections::Full;
use crate::listen::core_thread::{Accepted, ClientStream};
use crate::shared::Shared;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// The ways to the cores.
#[derive(Clone)]
pub(crate) struct Cores {
    shared: Arc<Shared>,
    to: Vec<mpsc::Sender<Accepted>>,
    turn: Arc<AtomicUsize>,
    logged_at: Arc<AtomicU64>,
}

impl Cores {
    pub(crate) fn new(shared: Arc<Shared>, to: Vec<mpsc::Sender<Accepted>>) -> Self {
        Self { shared, to, turn: Arc::default(), logged_at: Arc::default() }
    }

    /// Hands a connection to a core, if it gets a place. `ports` are the outside
    /// ports it may mean.
    pub(crate) fn hand_over(
        &self,
        stream: ClientStream,
        (peer, local): (SocketAddr, SocketAddr),
        ports: Arc<[u16]>,
    ) {
        let metrics = &self.shared.metrics;
        metrics.connects.inc();
        let place = match self.shared.connections.take(peer.ip()) {
            Ok((place, evicted)) => {
                metrics.evicted.inc_by(evicted as u64);
                place
            }
            Err(full) => return self.refuse(peer, full),
        };
        let values = ClientValues::new(peer, local, ports[0]);
        let client = Arc::new(Client { values, ports, place });
        let mut accepted = Accepted { stream, client };
        let first = self.turn.fetch_add(1, Relaxed);
        // A core that does not keep up must not keep connections from the others.
        for at in 0..self.to.len() {
            match self.to[first.wrapping_add(at) % self.to.len()].try_send(accepted) {
                Ok(()) => return,
                Err(err) => accepted = err.into_inner(),
            }
        }
        self.refuse(peer, Full::All);
    }

    fn refuse(&self, peer: SocketAddr, why: Full) {
        self.shared.metrics.refused.inc();
        self.shared.metrics.disconnects.inc();
        if self.may_log() {
            tracing::warn!(%peer, ?why, "client connections are refused");
        }
    }

    /// A line a second at most.
    fn may_log(&self) -> bool {
        self.shared.may_log(&self.logged_at, Duration::from_secs(1))
    }
}

/// Accepts until the edge stops.
pub(crate) async fn accept(listener: TcpListener, ports: Arc<[u16]>, cores: Cores) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(err) => {
                if cores.may_log() {
                    tracing::warn!(%err, "accept failed");
                }
                // Out of descriptors: other connections must end first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Best effort: without it small answers are only slower.
        let _ = stream.set_nodelay(true);
        let (Ok(local), Ok(stream)) = (stream.local_addr(), stream.into_std()) else { continue };
        cores.hand_over(ClientStream::Tcp(stream), (peer, local), ports.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::testing::shared;
    use std::net::Ipv4Addr;

    fn stream() -> ClientStream {
        ClientStream::Other(Box::new(tokio::io::duplex(1).0))
    }

    #[tokio::test]
    async fn a_core_that_is_busy_keeps_no_connection_from_the_others() {
        let shared = Arc::new(shared(9));
        let (busy, mut of_busy) = mpsc::channel(1);
        let (free, mut of_free) = mpsc::channel(9);
        let cores = Cores::new(shared.clone(), vec![busy, free]);
        let addr = |n| SocketAddr::from((Ipv4Addr::new(127, 0, 0, n), 1));
        for n in 1..=6 {
            cores.hand_over(stream(), (addr(n), addr(1)), [80].into());
        }
        let count = |from: &mut mpsc::Receiver<Accepted>| {
            std::iter::from_fn(|| from.try_recv().ok()).count()
        };
        assert_eq!((count(&mut of_busy), count(&mut of_free)), (1, 5));
        assert_eq!(shared.metrics.refused.get(), 0);
    }
}
