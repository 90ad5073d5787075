//! Log data of a guest that numbers its bytes: it is stored once, however often it is
//! sent, and acknowledged up to the last line that is stored.
//!
//! Init sends again what was not acknowledged, to the same daemon (a new session) or
//! to the next one. Offsets begin at 0 with each boot of the machine.

use super::{LogStore, Voice, lock};
use model::id::BootId;

/// A piece of a guest's log.
pub(crate) struct GuestLog<'a> {
    pub(crate) app: &'a str,
    pub(crate) machine: &'a str,
    pub(crate) boot: Option<BootId>,
    pub(crate) voice: Voice,
    /// How many bytes of this source came before `data` in this boot.
    pub(crate) offset: u64,
    pub(crate) data: &'a [u8],
}

/// How far the log of one boot has come, by source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Positions {
    boot: Option<BootId>,
    sources: [Position; 3],
}

#[derive(Clone, Copy, Debug, Default)]
struct Position {
    /// All before it has been taken.
    taken: u64,
    /// All before it has been stored: the rest is a line that is not complete.
    stored: u64,
}

impl LogStore {
    /// Stores what is new in a piece of a guest's log. Returns the offset before which
    /// all data of this source is stored: the guest may forget it.
    pub(crate) fn append_guest(&self, log: &GuestLog<'_>) -> u64 {
        let mut all = lock(&self.positions);
        let none = Positions { boot: log.boot, sources: Default::default() };
        let positions = all.entry(log.machine.to_owned()).or_insert(none);
        if positions.boot != log.boot {
            *positions = none;
        }
        let position = &mut positions.sources[log.voice as usize];
        let data = position.advance(log.offset, log.data);
        let stored = position.stored;
        drop(all);
        if !data.is_empty() {
            self.bytes(log.app, log.machine, log.voice, data);
        }
        stored
    }
}

impl Position {
    /// Takes the part of `data` that was not taken before.
    fn advance<'a>(&mut self, offset: u64, data: &'a [u8]) -> &'a [u8] {
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
