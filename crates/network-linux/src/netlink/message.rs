//! Netlink messages as bytes: requests are built, answers are taken apart.

const HEADER: usize = 16;
const ALIGN: usize = 4;
/// Message type of an error, or of an acknowledgement if the code is 0.
pub(super) const ERROR: u16 = 2;
/// Message type of the end of a list.
pub(super) const DONE: u16 = 3;
const NESTED: u16 = 1 << 15;

/// `NLM_F_REQUEST`: every message of ours is a request.
pub(crate) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: the kernel acknowledges success too.
pub(crate) const ACK: u16 = 0x4;
/// `NLM_F_DUMP`: list all objects.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`: an object that exists is changed.
pub(crate) const REPLACE: u16 = 0x100;
/// `NLM_F_CREATE`: an object that does not exist is created.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_EXCL`: it is an error if the object exists.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_APPEND`: add at the end of a list.
pub(crate) const APPEND: u16 = 0x800;
/// `NLM_F_DUMP_INTR`: the list changed while it was read.
pub(super) const INTERRUPTED: u16 = 0x10;

/// Requests in order, as bytes.
#[derive(Debug, Default)]
pub(crate) struct Messages(pub(super) Vec<u8>);

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

    /// Numbers the requests from `first` on. Returns how many there are, and how
    /// many of them the kernel acknowledges.
    pub(super) fn number(&mut self, first: u32) -> (u32, usize) {
        let (mut at, mut count, mut acks) = (0, 0, 0);
        while at < self.0.len() {
            let (length, flags) = (u32_at(&self.0, at), u16_at(&self.0, at + 6));
            let number = first.wrapping_add(count);
            self.0[at + 8..at + 12].copy_from_slice(&number.to_ne_bytes());
            count += 1;
            acks += usize::from(flags & ACK != 0);
            at += (length as usize).next_multiple_of(ALIGN);
        }
        (count, acks)
    }
}

/// Payload of a request: a fixed part, then attributes.
#[derive(Debug)]
pub(crate) struct Body<'a>(&'a mut Vec<u8>);

impl Body<'_> {
    /// Bytes as they are, up to the next multiple of four.
    pub(crate) fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(ALIGN), 0);
    }

    /// An attribute with bytes as its value.
    pub(crate) fn value(&mut self, kind: u16, value: &[u8]) {
        self.0.extend(((4 + value.len()) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.fixed(value);
    }

    /// An attribute with a 32-bit number in network byte order, as in netfilter.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.value(kind, &value.to_be_bytes());
    }

    /// An attribute with a zero-terminated string.
    pub(crate) fn text(&mut self, kind: u16, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.value(kind, &bytes);
    }

    /// An attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Body<'_>)) {
        let begin = self.0.len();
        self.value(kind | NESTED, &[]);
        body(&mut Body(self.0));
        let length = (self.0.len() - begin) as u16;
        self.0[begin..begin + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// A message from the kernel.
pub(super) struct Answer<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) number: u32,
    pub(super) body: &'a [u8],
}

impl Answer<'_> {
    /// Error code of an [`ERROR`] or [`DONE`] message; 0 is success.
    pub(super) fn errno(&self) -> i32 {
        let code = self.body.get(..4).and_then(|bytes| bytes.try_into().ok());
        code.map_or(0, i32::from_ne_bytes).saturating_neg()
    }
}

/// The messages in a received datagram.
pub(super) fn split(mut bytes: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let length = (bytes.len() >= HEADER).then(|| u32_at(bytes, 0) as usize)?;
        let body = bytes.get(HEADER..length)?;
        let (kind, flags, number) = (u16_at(bytes, 4), u16_at(bytes, 6), u32_at(bytes, 8));
        bytes = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some(Answer { kind, flags, number, body })
    })
}

/// The value of the first attribute of this kind in a list of attributes.
pub(crate) fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    while bytes.len() >= 4 {
        let (length, kind) = (usize::from(u16_at(bytes, 0)), u16_at(bytes, 2));
        let value = bytes.get(4..length)?;
        if kind & !NESTED == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
    }
    None
}

/// The same, as text.
pub(crate) fn text_of(bytes: &[u8], wanted: u16) -> Option<&str> {
    let value = std::str::from_utf8(attribute(bytes, wanted)?).ok()?;
    Some(value.trim_end_matches('\0'))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
