//! `/.fly/api`: the socket of the Machines API in the guest. Init forwards bytes
//! between its clients and the host.
//!
//! Bounds: connections at a time, bytes that a client may send on one, and bytes
//! held for a client that does not read. No client is accepted while the host does
//! not read ([`Outbox::bulk_is_full`]).

use crate::agent::outbox::Outbox;
use crate::boot::mounts;
use crate::process::stream::{self, ReadResult};
use guest_protocol::{API_CONNECTIONS, API_WINDOW, ApiId, LogSource, MAX_CHUNK, ToHost};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

/// Bytes held for a client that does not read.
const MAX_UNREAD: usize = 256 * 1024;

/// A client.
struct Connection {
    socket: OwnedFd,
    /// Bytes received from it.
    received: usize,
    /// It sends no more, but may still read.
    read_closed: bool,
    /// Bytes of the host for it.
    pending: VecDeque<u8>,
    /// The host sends no more: it is closed once `pending` is written.
    write_closed: bool,
}

/// The socket and its clients.
#[derive(Default)]
pub(crate) struct GuestApi {
    listener: Option<OwnedFd>,
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
        Ok(Self { listener: Some(listener.into()), ..Self::default() })
    }

    /// The listener, if a client can be accepted; without a session none can.
    pub(crate) fn listener(&self, outbox: &Outbox) -> Option<BorrowedFd<'_>> {
        let room = self.connections.len() < API_CONNECTIONS && !outbox.bulk_is_full();
        self.listener.as_ref().filter(|_| room && outbox.in_session()).map(AsFd::as_fd)
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

    /// Accepts a client.
    pub(crate) fn accept(&mut self, outbox: &mut Outbox) {
        let Some(listener) = &self.listener else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::accept_with(listener, flags) else { return };
        self.last = self.last.wrapping_add(1);
        let (pending, received) = (VecDeque::new(), 0);
        let connection =
            Connection { socket, received, read_closed: false, pending, write_closed: false };
        self.connections.insert(self.last, connection);
        outbox.bulk(ToHost::ApiOpen(self.last));
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
        if self.connections.remove(&id).is_some_and(|connection| !connection.write_closed) {
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
