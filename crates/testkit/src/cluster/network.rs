//! A network between processes that are all in this one: it delays, cuts and
//! resets connections, per direction, where a test asks for it.
//!
//! Bytes in a cut direction wait, as TCP retransmits them: neither end learns
//! of it but by its own timeouts. Healing delivers them. A reset ends both
//! directions at once.

use async_trait::async_trait;
use host_api::GuestStream;
use host_remote::{Dial, Peer, Role, Server};
use rt::Tasks;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Bytes under way in each direction of a connection.
const WINDOW: usize = 64 * 1024;

/// A node of the network, by name.
type Node = String;

/// The state of one direction between two nodes.
#[derive(Clone, Debug, Default)]
struct Link {
    cut: bool,
    delay: Duration,
    /// Grows with each reset.
    resets: u64,
}

/// The network. Clones are one network.
#[derive(Clone, Debug)]
pub struct SimulatedNetwork(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tasks: Tasks,
    servers: Mutex<HashMap<Node, Served>>,
    links: Mutex<HashMap<(Node, Node), watch::Sender<Link>>>,
}

/// A server, and the runtime that its calls are answered on.
#[derive(Clone, Debug)]
struct Served {
    server: Server,
    runtime: Handle,
}

impl SimulatedNetwork {
    /// A network whose connections are tasks of `tasks`.
    pub fn new(tasks: Tasks) -> Self {
        Self(Arc::new(Inner { tasks, servers: Mutex::default(), links: Mutex::default() }))
    }

    /// From now on `server` answers connections to `node`, on the runtime that
    /// this is called on.
    ///
    /// # Panics
    /// It is called outside of a runtime.
    pub fn serve(&self, node: &str, server: Server) {
        let served = Served { server, runtime: Handle::current() };
        lock(&self.0.servers).insert(node.into(), served);
    }

    /// Nothing answers at `node` any more: its process is gone. Connections that
    /// are open are reset.
    pub fn remove(&self, node: &str) {
        lock(&self.0.servers).remove(node);
        let links = lock(&self.0.links);
        for ((from, to), link) in links.iter() {
            if from == node || to == node {
                link.send_modify(|link| link.resets += 1);
            }
        }
    }

    /// How `from`, which runs `roles`, reaches `to`.
    pub fn dial(&self, from: &str, roles: &[Role], to: &str) -> Arc<dyn Dial> {
        let peer = Peer { name: from.into(), roles: roles.iter().copied().collect() };
        Arc::new(SimulatedDial { network: self.clone(), peer, to: to.into() })
    }

    /// Cuts both directions between two nodes.
    pub fn cut(&self, a: &str, b: &str) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Nothing that `from` sends arrives at `to`.
    pub fn cut_one_way(&self, from: &str, to: &str) {
        self.change(from, to, |link| link.cut = true);
    }

    /// Both directions between two nodes work again.
    pub fn heal(&self, a: &str, b: &str) {
        self.change(a, b, |link| link.cut = false);
        self.change(b, a, |link| link.cut = false);
    }

    /// Everything takes so long in both directions.
    pub fn delay(&self, a: &str, b: &str, delay: Duration) {
        self.change(a, b, |link| link.delay = delay);
        self.change(b, a, |link| link.delay = delay);
    }

    /// Ends all connections between two nodes.
    pub fn reset(&self, a: &str, b: &str) {
        self.change(a, b, |link| link.resets += 1);
        self.change(b, a, |link| link.resets += 1);
    }

    fn change(&self, from: &str, to: &str, change: impl FnOnce(&mut Link)) {
        let mut links = lock(&self.0.links);
        links.entry((from.into(), to.into())).or_default().send_modify(change);
    }

    fn watch(&self, from: &str, to: &str) -> watch::Receiver<Link> {
        let mut links = lock(&self.0.links);
        links.entry((from.into(), to.into())).or_default().subscribe()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct SimulatedDial {
    network: SimulatedNetwork,
    peer: Peer,
    to: Node,
}

#[async_trait]
impl Dial for SimulatedDial {
    async fn dial(&self) -> io::Result<Box<dyn GuestStream>> {
        let mut out = self.network.watch(&self.peer.name, &self.to);
        let back = self.network.watch(&self.to, &self.peer.name);
        let gone = |_| io::Error::from(io::ErrorKind::TimedOut);
        // A connection needs an answer: both directions have to work.
        out.wait_for(|link| !link.cut).await.map_err(gone)?;
        back.clone().wait_for(|link| !link.cut).await.map_err(gone)?;
        let found = lock(&self.network.0.servers).get(&self.to).cloned();
        let Served { server, runtime } =
            found.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        let (client_end, client) = tokio::io::duplex(WINDOW);
        let (server_end, served) = tokio::io::duplex(WINDOW);
        let tasks = &self.network.0.tasks;
        let peer = self.peer.clone();
        tasks.spawn_until_stop(carry(client, server_end, out, back));
        let _there = runtime.enter();
        tasks.spawn_until_stop(async move { server.serve(peer, served).await });
        Ok(Box::new(client_end))
    }
}

/// Carries bytes both ways until one end closes or a reset.
async fn carry(
    client: DuplexStream,
    server: DuplexStream,
    out: watch::Receiver<Link>,
    back: watch::Receiver<Link>,
) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    let reset = was_reset(out.clone());
    tokio::select! {
        () = pump(from_client, to_server, out) => {}
        () = pump(from_server, to_client, back) => {}
        () = reset => {}
    }
}

async fn was_reset(mut link: watch::Receiver<Link>) {
    let before = link.borrow().resets;
    // The network outlives its connections.
    let _ = link.wait_for(|link| link.resets > before).await;
}

/// One direction.
async fn pump(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    mut link: watch::Receiver<Link>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let Ok(state) = link.wait_for(|link| !link.cut).await.map(|link| link.clone()) else {
            break;
        };
        if !state.delay.is_zero() {
            tokio::time::sleep(state.delay).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    // The end of a connection travels as its bytes do.
    let _ = link.wait_for(|link| !link.cut).await;
}
