//! The Machines API in the guest, at the socket `/.fly/api` and over TCP at
//! `_api.internal:4280`. Init forwards bytes between its clients and the host.
//!
//! The TCP address is one of the guest's loopback interface, and the listener takes
//! connections of that interface only: nothing outside of the guest reaches it.
//!
//! Bounds: connections at a time, bytes that a client may send on one, and bytes
//! held for a client that does not read. No client is accepted while the host does
//! not read ([`Outbox::bulk_is_full`]).

use crate::agent::outbox::Outbox;
use crate::boot::mounts;
use crate::process::stream::{self, ReadResult};
use guest_protocol::{
    API_ADDRESS, API_CONNECTIONS, API_PORT, API_WINDOW, ApiId, LogSource, MAX_CHUNK, ToHost,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::collections::{BTreeMap, VecDeque};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

/// Bytes held for a client that does not read.
const MAX_UNREAD: usize = 256 * 1024;

/// A client.
struct Connection {
    socket: OwnedFd,
    /// Bytes received from it.
    received: usize,
    /// It sends no more, as the host knows, but may still read.
    read_closed: bool,
    /// Bytes of the host for it.
    pending: VecDeque<u8>,
    /// The host sends no more: it is closed once `pending` is written.
    write_closed: bool,
}

struct Listener {
    socket: OwnedFd,
    /// Over TCP, whose clients are not known by a file they may open.
    tcp: bool,
}

/// The listening sockets and their clients.
#[derive(Default)]
pub(crate) struct GuestApi {
    listeners: Vec<Listener>,
    connections: BTreeMap<ApiId, Connection>,
    last: ApiId,
}

impl GuestApi {
    /// Makes the socket, in the file system that is moved into the root later.
    pub(crate) fn listen() -> Result<Self, String> {
        Self::listen_at(&format!("{}/api", mounts::FLY))
    }

    fn listen_at(path: &str) -> Result<Self, String> {
        let listen = || {
            let listener = UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
            Ok(listener)
        };
        let listener =
            listen().map_err(|err: std::io::Error| format!("cannot make {path}: {err}"))?;
        let socket = Listener { socket: listener.into(), tcp: false };
        Ok(Self { listeners: vec![socket], ..Self::default() })
    }

    /// Listens at `_api.internal` too, whose address loopback has.
    pub(crate) fn listen_tcp(&mut self) -> Result<(), String> {
        let listen = || {
            let listener = TcpListener::bind((API_ADDRESS, API_PORT))?;
            listener.set_nonblocking(true)?;
            bind_to_loopback(&listener)?;
            // Answers are written in parts; the clients' sockets inherit it.
            rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
            Ok(listener)
        };
        let listener = listen().map_err(|err: std::io::Error| {
            format!("cannot listen on _api.internal ([{API_ADDRESS}]:{API_PORT}): {err}")
        })?;
        self.listeners.push(Listener { socket: listener.into(), tcp: true });
        Ok(())
    }

    /// The listeners, if a client can be accepted; without a session none can.
    pub(crate) fn listeners(&self, outbox: &Outbox) -> impl Iterator<Item = BorrowedFd<'_>> {
        let room = self.connections.len() < API_CONNECTIONS && !outbox.bulk_is_full();
        let accepting = room && outbox.in_session();
        self.listeners.iter().filter(move |_| accepting).map(|listener| listener.socket.as_fd())
    }

    /// The clients to poll, and for which events beside a hang-up.
    pub(crate) fn clients(&self) -> impl Iterator<Item = (ApiId, BorrowedFd<'_>, PollFlags)> {
        self.connections.iter().map(|(&id, c)| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, !c.read_closed);
            flags.set(PollFlags::OUT, !c.pending.is_empty());
            (id, c.socket.as_fd(), flags)
        })
    }

    /// Accepts a client of the listener at this place.
    pub(crate) fn accept(&mut self, listener: usize, outbox: &mut Outbox) {
        // Another listener of the same poll may have taken the last place.
        let full = self.connections.len() >= API_CONNECTIONS;
        let Some(listener) = self.listeners.get(listener).filter(|_| !full) else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::accept_with(&listener.socket, flags) else { return };
        self.last = self.last.wrapping_add(1);
        let (pending, received) = (VecDeque::new(), 0);
        let connection =
            Connection { socket, received, read_closed: false, pending, write_closed: false };
        self.connections.insert(self.last, connection);
        outbox.bulk(ToHost::ApiOpen(self.last, listener.tcp));
    }

    /// Reads from and writes to a client that is ready.
    pub(crate) fn serve(&mut self, id: ApiId, buffer: &mut [u8], outbox: &mut Outbox) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let open = connection.write() && connection.read(id, buffer, outbox);
        if !open {
            self.close(id, outbox);
        }
    }

    /// Queues bytes of the host for a client.
    pub(crate) fn data(&mut self, id: ApiId, bytes: &[u8], outbox: &mut Outbox) {
        let Some(connection) = self.connections.get_mut(&id).filter(|c| !c.write_closed) else {
            return;
        };
        connection.pending.extend(bytes);
        let open = connection.write();
        let held = connection.pending.len();
        if open && held > MAX_UNREAD {
            let line = format!(
                "/.fly/api: a client was cut off in the middle of an answer: it reads too slowly \
                 ({held} bytes were held for it, at most {MAX_UNREAD} are); read the answer into \
                 a file first\n"
            );
            outbox.logs.push(LogSource::Init, line.as_bytes());
        }
        if !open || held > MAX_UNREAD {
            self.close(id, outbox);
        }
    }

    /// The host has closed a connection.
    pub(crate) fn end(&mut self, id: ApiId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.write_closed = true;
        connection.read_closed = true;
        if !connection.write() {
            self.connections.remove(&id);
        }
    }

    /// Closes all connections: their session has ended.
    pub(crate) fn clear(&mut self) {
        self.connections.clear();
    }

    fn close(&mut self, id: ApiId, outbox: &mut Outbox) {
        // The host knows already that a client has ended which sends no more.
        if self.connections.remove(&id).is_some_and(|connection| !connection.read_closed) {
            outbox.bulk(ToHost::ApiEnd(id));
        }
    }
}

impl Connection {
    /// Writes the bytes of the host; false if the connection is closed.
    fn write(&mut self) -> bool {
        while !self.pending.is_empty() {
            match rustix::io::write(&self.socket, self.pending.as_slices().0) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        !self.write_closed
    }

    /// Reads what the client sends; false if the connection is closed.
    fn read(&mut self, id: ApiId, buffer: &mut [u8], outbox: &mut Outbox) -> bool {
        if self.read_closed {
            return !self.is_closed();
        }
        let room = buffer.len().min(MAX_CHUNK);
        match stream::read(&self.socket, &mut buffer[..room]) {
            ReadResult::Bytes(n) => {
                self.received += n;
                if self.received > API_WINDOW {
                    return false;
                }
                outbox.bulk(ToHost::ApiData(id, buffer[..n].to_vec()));
                true
            }
            ReadResult::WouldBlock => true,
            ReadResult::Eof => {
                self.read_closed = true;
                // The answer to it may still come. Over TCP nothing shows that a client
                // reads no more, and one that has ended would keep its place otherwise.
                outbox.bulk(ToHost::ApiEnd(id));
                !self.is_closed()
            }
        }
    }

    /// Whether the client has closed its other direction too.
    fn is_closed(&self) -> bool {
        let mut poll = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = rustix::event::poll(&mut poll, Some(&now));
        poll[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }
}

/// Has a socket take packets of the loopback interface only.
fn bind_to_loopback(socket: &TcpListener) -> std::io::Result<()> {
    let name = c"lo".to_bytes_with_nul();
    // SAFETY: the kernel reads the name, of the given length, and keeps nothing of it.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            name.len() as libc::socklen_t,
        )
    };
    if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_client_that_reads_too_slowly_is_cut_off_and_the_log_shows_it() {
        let (client, served) = UnixStream::pair().unwrap();
        served.set_nonblocking(true).unwrap();
        let mut api = GuestApi::default();
        let connection = Connection {
            socket: served.into(),
            received: 0,
            read_closed: false,
            pending: VecDeque::new(),
            write_closed: false,
        };
        api.connections.insert(1, connection);
        let mut outbox = Outbox::new(4096);
        // The socket's own buffer takes some of it.
        for _ in 0..64 {
            api.data(1, &[0; 64 * 1024], &mut outbox);
        }
        assert!(api.connections.is_empty());
        let line = match outbox.logs.next() {
            Some(ToHost::Log { source: LogSource::Init, data, .. }) => data,
            other => panic!("{other:?}"),
        };
        let line = String::from_utf8(line).unwrap();
        assert!(line.starts_with("/.fly/api: a client was cut off"), "{line}");
        assert!(outbox.logs.next().is_none(), "once");
        drop(client);
    }
}
