//! Output of a guest that numbers its bytes: it is stored once, however often it is
//! sent, and acknowledged up to the last line that is written. What a guest sends faster
//! than it is written is dropped and counted; the acknowledgement of what follows covers
//! it, so it is not sent again.
//!
//! Init sends again what was not acknowledged, to the same daemon (a new session) or
//! to the next one, which finds the end of each stored line beside the line. Offsets
//! begin at 0 with each boot of the machine.

use super::lines::LINE;
use guest_protocol::{MAX_UNITS, UnitId};
use model::id::BootId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A stream of a guest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LogStream {
    Stdout,
    Stderr,
    Init,
}

impl LogStream {
    const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::Init];
}

/// A stream of one unit (a process or container of several), or of a guest without units.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Channel {
    pub(crate) stream: LogStream,
    pub(crate) unit: Option<UnitId>,
}

impl Channel {
    /// Its number in stored lines; `None` if there can be no such unit. The numbers of a
    /// guest without units are those of earlier versions.
    pub(super) fn slot(self) -> Option<usize> {
        let unit = match self.unit {
            None => 0,
            Some(unit) if usize::from(unit) < MAX_UNITS => usize::from(unit) + 1,
            Some(_) => return None,
        };
        Some(unit * LogStream::ALL.len() + self.stream as usize)
    }

    /// The channel of a number.
    pub(super) fn of_slot(slot: usize) -> Option<Self> {
        let (unit, stream) = (slot / LogStream::ALL.len(), slot % LogStream::ALL.len());
        let unit = unit.checked_sub(1).map(UnitId::try_from).transpose().ok()?;
        let channel = Self { stream: LogStream::ALL[stream], unit };
        channel.slot().map(|_| channel)
    }
}

impl From<LogStream> for Channel {
    fn from(stream: LogStream) -> Self {
        Self { stream, unit: None }
    }
}

/// What lines of a unit carry beside their text, such as its container's name.
pub(crate) type Meta = Arc<BTreeMap<String, String>>;

/// A piece of a guest's output.
pub(crate) struct GuestLog<'a> {
    pub(crate) app: &'a str,
    pub(crate) machine: &'a str,
    pub(crate) boot: Option<BootId>,
    pub(crate) channel: Channel,
    pub(crate) meta: Option<Meta>,
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

/// How far the output of one boot has come, by the number of the channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Positions {
    boot: Option<BootId>,
    channels: BTreeMap<usize, Position>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position {
    /// All before it has been taken.
    pub(super) taken: u64,
    /// All before it has been stored: the rest is a line that is not complete.
    pub(super) stored: u64,
}

impl Positions {
    /// The position of a channel in this boot.
    pub(super) fn of(&mut self, boot: Option<BootId>, slot: usize) -> &mut Position {
        if self.boot != boot {
            *self = Self { boot, ..Self::default() };
        }
        self.channels.entry(slot).or_default()
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
        self.stored = self.stored.max(self.taken.saturating_sub(LINE as u64));
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
    fn a_channel_has_a_number_and_only_real_units_do() {
        let numbers = |unit| {
            [LogStream::Stdout, LogStream::Stderr, LogStream::Init]
                .map(|stream| Channel { stream, unit }.slot())
        };
        assert_eq!(numbers(None), [Some(0), Some(1), Some(2)]);
        assert_eq!(numbers(Some(0)), [Some(3), Some(4), Some(5)]);
        assert_eq!(numbers(Some(u16::MAX)), [None; 3]);
        for slot in 0..=99 {
            let back = Channel::of_slot(slot).and_then(Channel::slot);
            assert_eq!(back, (slot < 99).then_some(slot));
        }
        assert!(Channel::of_slot(usize::MAX).is_none());
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
        position.advance(0, &vec![b'x'; 3 * LINE]);
        assert_eq!(position.stored, 2 * LINE as u64);
    }
}
