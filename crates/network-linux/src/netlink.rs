//! Talking with the kernel over netlink: many requests go in one write, which
//! returns when the kernel has dealt with all of them.

use netlink_sys::{Socket, SocketAddr};
use std::io;
use std::sync::{Mutex, PoisonError};

const HEADER: usize = 16;
const ALIGN: usize = 4;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NESTED: u16 = 1 << 15;

/// A request.
pub(crate) const REQUEST: u16 = 0x1;
/// The kernel says how it went.
pub(crate) const ACK: u16 = 0x4;
/// All things of a kind.
pub(crate) const DUMP: u16 = 0x300;
/// What is there already stays, or is changed.
pub(crate) const REPLACE: u16 = 0x100;
/// What is not there is made.
pub(crate) const CREATE: u16 = 0x400;
/// Behind what is there.
pub(crate) const APPEND: u16 = 0x800;
/// Of a dump: something changed meanwhile.
const INTERRUPTED: u16 = 0x10;

/// Requests, in their order.
#[derive(Debug, Default)]
pub(crate) struct Messages(Vec<u8>);

impl Messages {
    /// Adds a request.
    pub(crate) fn push(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Body<'_>)) {
        let begin = self.0.len();
        self.0.extend([0; 4]);
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(flags.to_ne_bytes());
        self.0.extend([0; 8]);
        body(&mut Body(&mut self.0));
        let length = (self.0.len() - begin) as u32;
        self.0[begin..begin + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Numbers the requests on from `first`; says how many there are, and how
    /// many of them the kernel will answer though they went well.
    fn number(&mut self, first: u32) -> (u32, usize) {
        let (mut at, mut count, mut answers) = (0, 0, 0);
        while at < self.0.len() {
            let (length, flags) = (u32_at(&self.0, at), u16_at(&self.0, at + 6));
            let number = first.wrapping_add(count);
            self.0[at + 8..at + 12].copy_from_slice(&number.to_ne_bytes());
            count += 1;
            answers += usize::from(flags & ACK != 0);
            at += (length as usize).next_multiple_of(ALIGN);
        }
        (count, answers)
    }
}

/// What a request says: a fixed part, then attributes.
#[derive(Debug)]
pub(crate) struct Body<'a>(&'a mut Vec<u8>);

impl Body<'_> {
    /// Bytes as they are, up to the next multiple of four.
    pub(crate) fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(ALIGN), 0);
    }

    /// An attribute that is a value.
    pub(crate) fn value(&mut self, kind: u16, value: &[u8]) {
        self.0.extend(((4 + value.len()) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.fixed(value);
    }

    /// An attribute that is a number in network order, as netfilter has them.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.value(kind, &value.to_be_bytes());
    }

    /// An attribute that is text.
    pub(crate) fn text(&mut self, kind: u16, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.value(kind, &bytes);
    }

    /// An attribute that has attributes.
    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Body<'_>)) {
        let begin = self.0.len();
        self.value(kind | NESTED, &[]);
        body(&mut Body(self.0));
        let length = (self.0.len() - begin) as u16;
        self.0[begin..begin + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// A socket in the network namespace of the thread that opened it.
pub(crate) struct Netlink(Mutex<Line>);

struct Line {
    socket: Socket,
    next: u32,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Netlink")
    }
}

impl Netlink {
    /// Opens a socket of this protocol, one of `netlink_sys::protocols`.
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // An error need not repeat what was asked.
        socket.set_cap_ack(true)?;
        Ok(Self(Mutex::new(Line { socket, next: 1 })))
    }

    /// Asks for changes. The first thing that went wrong is the error.
    pub(crate) fn ask(&self, mut messages: Messages) -> io::Result<()> {
        // What a panic leaves behind is at most answers, which are told by number.
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = line.next;
        let (count, answers) = messages.number(first);
        line.next = first.wrapping_add(count);
        line.socket.send(&messages.0, 0)?;
        let (mut came, mut wrong) = (0, None);
        loop {
            let mut buffer = Vec::with_capacity(32 << 10);
            // The kernel works while `send` does: all its answers are here.
            match line.socket.recv(&mut buffer, libc::MSG_DONTWAIT) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) => return Err(err),
                Ok(_) => {}
            }
            for answer in split(&buffer) {
                if answer.kind != ERROR || answer.number.wrapping_sub(first) >= count {
                    continue;
                }
                match answer.errno() {
                    0 => came += 1,
                    code if wrong.is_none() => wrong = Some(io::Error::from_raw_os_error(code)),
                    _ => {}
                }
            }
        }
        match wrong {
            Some(err) => Err(err),
            None if came < answers => Err(io::Error::other("netlink: an answer is missing")),
            None => Ok(()),
        }
    }

    /// Asks for a list; `each` gets the body of every part. Again from the
    /// start, with `each` none the wiser, if something changed meanwhile.
    pub(crate) fn list(
        &self,
        mut messages: Messages,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        'again: loop {
            let first = line.next;
            line.next = first.wrapping_add(messages.number(first).0);
            line.socket.send(&messages.0, 0)?;
            let mut interrupted = false;
            loop {
                let mut buffer = Vec::with_capacity(32 << 10);
                line.socket.recv(&mut buffer, 0)?;
                for answer in split(&buffer).filter(|answer| answer.number == first) {
                    interrupted |= answer.flags & INTERRUPTED != 0;
                    match (answer.kind, answer.errno()) {
                        (ERROR | DONE, libc::EINTR) => continue 'again,
                        (DONE, _) if interrupted => continue 'again,
                        (DONE, 0) => return Ok(()),
                        (ERROR | DONE, code) => return Err(io::Error::from_raw_os_error(code)),
                        _ => each(answer.body),
                    }
                }
            }
        }
    }
}

/// A message of the kernel.
struct Answer<'a> {
    kind: u16,
    flags: u16,
    number: u32,
    body: &'a [u8],
}

impl Answer<'_> {
    /// Of [`ERROR`] and [`DONE`]: 0 is good.
    fn errno(&self) -> i32 {
        let code = self.body.get(..4).and_then(|bytes| bytes.try_into().ok());
        code.map_or(0, i32::from_ne_bytes).saturating_neg()
    }
}

fn split(mut bytes: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let length = (bytes.len() >= HEADER).then(|| u32_at(bytes, 0) as usize)?;
        let body = bytes.get(HEADER..length)?;
        let (kind, flags, number) = (u16_at(bytes, 4), u16_at(bytes, 6), u32_at(bytes, 8));
        bytes = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some(Answer { kind, flags, number, body })
    })
}

/// The text of an attribute, where attributes begin at `bytes`.
pub(crate) fn text_of(mut bytes: &[u8], wanted: u16) -> Option<&str> {
    while bytes.len() >= 4 {
        let (length, kind) = (usize::from(u16_at(bytes, 0)), u16_at(bytes, 2));
        let value = bytes.get(4..length)?;
        if kind & !NESTED == wanted {
            return std::str::from_utf8(value).ok().map(|text| text.trim_end_matches('\0'));
        }
        bytes = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
