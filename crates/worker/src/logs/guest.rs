//! Output of a guest that numbers its bytes: it is stored once, however often it is
//! sent, and acknowledged up to the last line that is written. What a guest sends faster
//! than it is written is dropped and counted; the acknowledgement of what follows covers
//! it, so it is not sent again.
//!
//! Init sends again what was not acknowledged, to the same daemon (a new session) or
//! to the next one, which finds the end of each stored line beside the line. Offsets
//! begin at 0 with each boot of the machine.

use model::id::BootId;

/// A stream of a guest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LogStream {
    Stdout,
    Stderr,
    Init,
}

impl LogStream {
    pub(super) const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::Init];
}

/// A piece of a guest's output.
pub(crate) struct GuestLog<'a> {
    pub(crate) app: &'a str,
    pub(crate) machine: &'a str,
    pub(crate) boot: Option<BootId>,
    pub(crate) stream: LogStream,
    /// How many bytes of this stream came before `data` in this boot.
    pub(crate) offset: u64,
    pub(crate) data: &'a [u8],
}

/// Called with the offset before which everything is stored, or dropped and counted.
pub(super) type Acknowledge = Box<dyn FnOnce(u64) + Send>;

/// The same on its way to the writer.
pub(super) struct Numbered {
    pub(super) boot: Option<BootId>,
    pub(super) offset: u64,
    pub(super) acknowledge: Acknowledge,
}

/// How far the output of one boot has come, by stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Positions {
    boot: Option<BootId>,
    streams: [Position; 3],
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position {
    /// All before it has been taken.
    pub(super) taken: u64,
    /// All before it has been stored: the rest is a line that is not complete.
    pub(super) stored: u64,
}

impl Positions {
    /// The position of a stream in this boot.
    pub(super) fn of(&mut self, boot: Option<BootId>, stream: LogStream) -> &mut Position {
        if self.boot != boot {
            *self = Self { boot, ..Self::default() };
        }
        &mut self.streams[stream as usize]
    }
}

impl Position {
    /// Takes the part of `data` that was not taken before.
    pub(super) fn advance<'a>(&mut self, offset: u64, data: &'a [u8]) -> &'a [u8] {
        let known = self.taken.saturating_sub(offset);
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(data.len());
        let begin = offset.saturating_add(known as u64);
        let new = &data[known..];
        if new.is_empty() {
            return new;
        }
        self.taken = begin.saturating_add(new.len() as u64);
        if let Some(newline) = new.iter().rposition(|&byte| byte == b'\n') {
            self.stored = begin.saturating_add(newline as u64 + 1);
        }
        // A line that is longer than any is kept is stored in parts.
        self.stored = self.stored.max(self.taken.saturating_sub(super::LINE as u64));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_taken_once_and_stored_up_to_its_last_line() {
        let mut position = Position::default();
        assert_eq!(position.advance(0, b"one\ntw"), b"one\ntw");
        assert_eq!((position.taken, position.stored), (6, 4));
        // The next session sends again what was not acknowledged.
        assert_eq!(position.advance(4, b"tw"), b"");
        assert_eq!(position.advance(4, b"two\n"), b"o\n");
        assert_eq!((position.taken, position.stored), (8, 8));
        assert_eq!(position.advance(0, b"one\n"), b"");
        // A gap: the guest has dropped data, or an earlier daemon stored it.
        assert_eq!(position.advance(100, b"x"), b"x");
        assert_eq!((position.taken, position.stored), (101, 8));
    }

    #[test]
    fn offsets_of_a_hostile_guest_do_no_harm() {
        let mut position = Position::default();
        assert_eq!(position.advance(u64::MAX, b"abc\n"), b"abc\n");
        assert_eq!((position.taken, position.stored), (u64::MAX, u64::MAX));
        assert_eq!(position.advance(0, b"abc\n"), b"");
    }

    #[test]
    fn an_endless_line_is_acknowledged() {
        let mut position = Position::default();
        position.advance(0, &vec![b'x'; 3 * super::super::LINE]);
        assert_eq!(position.stored, 2 * super::super::LINE as u64);
    }
}
