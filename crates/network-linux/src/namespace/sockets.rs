//! Sockets made inside the platform's namespace, for connections to guests.
//!
//! A socket belongs to the namespace in which it was made, whichever thread uses
//! it later. One thread lives in the namespace and keeps a few sockets in stock,
//! so that a request takes one without waiting for another thread.

use super::holder::Namespace;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::net::{TcpSocket, TcpStream};
use worker::ports::PortError;

/// Sockets in stock. The thread is woken when half of them are used.
const STOCK: usize = 64;

/// Makes TCP sockets inside the platform's namespace. Clones share a stock.
#[derive(Clone, Debug)]
pub struct NamespaceSockets {
    shared: Arc<Shared>,
    /// The thread ends when the last of these is dropped.
    _owner: Arc<Owner>,
}

#[derive(Debug, Default)]
struct Shared {
    stock: Mutex<Stock>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Stock {
    namespace: Option<Arc<Namespace>>,
    sockets: Vec<OwnedFd>,
    /// Ends the thread: the namespace has changed, or all users are dropped.
    generation: u64,
}

#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.retire();
    }
}

impl NamespaceSockets {
    /// Sockets of no namespace yet: [`NamespaceSockets::tcp4`] fails until the
    /// network is prepared.
    pub(crate) fn new() -> Self {
        let shared = Arc::<Shared>::default();
        Self { _owner: Arc::new(Owner(shared.clone())), shared }
    }

    /// Makes sockets in this namespace from now on, on a thread of its own.
    pub(crate) fn serve(&self, namespace: Arc<Namespace>) -> Result<(), PortError> {
        let failed = |err| PortError::new("start the thread that makes sockets for guests", err);
        let generation = {
            let mut stock = self.shared.lock();
            stock.sockets.clear();
            stock.namespace = Some(namespace.clone());
            stock.generation += 1;
            stock.generation
        };
        self.shared.wake.notify_all();
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("guest-sockets".into());
        thread.spawn(move || shared.fill(&namespace, generation)).map_err(failed)?;
        Ok(())
    }

    /// Makes no more sockets: the namespace is going away.
    pub(crate) fn stop(&self) {
        self.shared.retire();
    }

    /// A TCP socket for IPv4: not connected, non-blocking, close-on-exec. Takes
    /// one from the stock; makes one on this thread if the stock is used up.
    ///
    /// # Errors
    /// The network is not prepared, or there are no descriptors left.
    pub fn tcp4(&self) -> io::Result<OwnedFd> {
        let namespace = {
            let mut stock = self.shared.lock();
            let taken = stock.sockets.pop();
            if stock.sockets.len() <= STOCK / 2 {
                self.shared.wake.notify_one();
            }
            if let Some(socket) = taken {
                return Ok(socket);
            }
            stock.namespace.clone()
        };
        let unprepared = || io::Error::other("the network of the machines is not prepared yet");
        let namespace = namespace.ok_or_else(unprepared)?;
        namespace.run(make).map_err(io::Error::other)?
    }

    /// Connects to a guest from inside the namespace.
    ///
    /// # Errors
    /// Those of [`NamespaceSockets::tcp4`] and of the connection.
    pub async fn connect(&self, address: SocketAddrV4) -> io::Result<TcpStream> {
        let socket = std::net::TcpStream::from(self.tcp4()?);
        TcpSocket::from_std_stream(socket).connect(address.into()).await
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Stock> {
        // Each change of the stock is one assignment or push.
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retire(&self) {
        let mut stock = self.lock();
        stock.namespace = None;
        stock.sockets.clear();
        stock.generation += 1;
        drop(stock);
        self.wake.notify_all();
    }

    /// The thread: lives in the namespace and keeps the stock full.
    fn fill(&self, namespace: &Namespace, generation: u64) {
        if let Err(err) = namespace.enter() {
            tracing::warn!(%err, "no stock of sockets for guests; each is made when needed");
            return;
        }
        let mut stock = self.lock();
        while stock.generation == generation {
            while stock.sockets.len() < STOCK && stock.generation == generation {
                drop(stock);
                let made = make();
                stock = self.lock();
                match made {
                    Ok(socket) if stock.generation == generation => stock.sockets.push(socket),
                    Ok(_) => {}
                    // No descriptors: the caller that needs a socket gets the error, and the
                    // next use of the stock wakes this thread again.
                    Err(_) => break,
                }
            }
            if stock.generation != generation {
                return;
            }
            stock = self.wake.wait(stock).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn make() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?)
}
