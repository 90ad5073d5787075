//! `/.fly/api`: where processes of the guest ask their host. Init understands
//! nothing of it and carries bytes.
//!
//! Bounds: connections at a time, what a client may say on one, and what is held
//! for a client that does not read. None is taken in while the host does not
//! read what it was told ([`Outbox::bulk_is_full`]).

use crate::mounts;
use crate::outbox::Outbox;
use crate::stream::{self, Got};
use guest_protocol::{API_CONNECTIONS, API_WINDOW, ApiId, MAX_CHUNK, ToHost};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

/// Bytes held for a client that does not read.
const UNREAD: usize = 256 * 1024;

/// A client.
struct Connection {
    socket: OwnedFd,
    /// Bytes it has said.
    said: usize,
    /// It will say no more, but may still listen.
    said_all: bool,
    /// For it, from the host.
    pending: VecDeque<u8>,
    /// The host will say no more: it is closed when it has read `pending`.
    heard_all: bool,
}

/// The socket and its clients.
#[derive(Default)]
pub(crate) struct Api {
    listener: Option<OwnedFd>,
    connections: BTreeMap<ApiId, Connection>,
    last: ApiId,
}

impl Api {
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

    /// The listener, if a client can be taken in; without a host none can.
    pub(crate) fn listener(&self, outbox: &Outbox) -> Option<BorrowedFd<'_>> {
        let room = self.connections.len() < API_CONNECTIONS && !outbox.bulk_is_full();
        self.listener.as_ref().filter(|_| room && outbox.in_session()).map(AsFd::as_fd)
    }

    /// What to poll of the clients, and for what beside their going.
    pub(crate) fn clients(&self) -> impl Iterator<Item = (ApiId, BorrowedFd<'_>, PollFlags)> {
        self.connections.iter().map(|(&id, c)| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, !c.said_all);
            flags.set(PollFlags::OUT, !c.pending.is_empty());
            (id, c.socket.as_fd(), flags)
        })
    }

    /// A client has come.
    pub(crate) fn accept(&mut self, outbox: &mut Outbox) {
        let Some(listener) = &self.listener else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::accept_with(listener, flags) else { return };
        self.last = self.last.wrapping_add(1);
        let (pending, said) = (VecDeque::new(), 0);
        let connection = Connection { socket, said, said_all: false, pending, heard_all: false };
        self.connections.insert(self.last, connection);
        outbox.bulk(ToHost::ApiOpen(self.last));
    }

    /// Something can be done for a client.
    pub(crate) fn serve(&mut self, id: ApiId, buffer: &mut [u8], outbox: &mut Outbox) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let open = connection.write() && connection.read(id, buffer, outbox);
        if !open {
            self.close(id, outbox);
        }
    }

    /// The host answers.
    pub(crate) fn data(&mut self, id: ApiId, bytes: &[u8], outbox: &mut Outbox) {
        let Some(connection) = self.connections.get_mut(&id).filter(|c| !c.heard_all) else {
            return;
        };
        connection.pending.extend(bytes);
        if !connection.write() || connection.pending.len() > UNREAD {
            self.close(id, outbox);
        }
    }

    /// The host has no more to say.
    pub(crate) fn end(&mut self, id: ApiId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.heard_all = true;
        connection.said_all = true;
        if !connection.write() {
            self.connections.remove(&id);
        }
    }

    /// Closes all: their session is over.
    pub(crate) fn forget(&mut self) {
        self.connections.clear();
    }

    fn close(&mut self, id: ApiId, outbox: &mut Outbox) {
        if self.connections.remove(&id).is_some_and(|connection| !connection.heard_all) {
            outbox.bulk(ToHost::ApiEnd(id));
        }
    }
}

impl Connection {
    /// Says what the host has said; false if it is over.
    fn write(&mut self) -> bool {
        while !self.pending.is_empty() {
            match rustix::io::write(&self.socket, self.pending.as_slices().0) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        !self.heard_all
    }

    /// Takes what it says; false if it is over.
    fn read(&mut self, id: ApiId, buffer: &mut [u8], outbox: &mut Outbox) -> bool {
        if self.said_all {
            return !self.is_gone();
        }
        let room = buffer.len().min(MAX_CHUNK);
        match stream::read(&self.socket, &mut buffer[..room]) {
            Got::Bytes(n) => {
                self.said += n;
                if self.said > API_WINDOW {
                    return false;
                }
                outbox.bulk(ToHost::ApiData(id, buffer[..n].to_vec()));
                true
            }
            Got::Later => true,
            Got::End => {
                self.said_all = true;
                !self.is_gone()
            }
        }
    }

    /// Whether it hears nothing any more, too.
    fn is_gone(&self) -> bool {
        let mut poll = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = rustix::event::poll(&mut poll, Some(&now));
        poll[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }
}
