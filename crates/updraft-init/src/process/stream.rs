//! Descriptors of children: non-blocking reads and writes, terminals, and the credit
//! of an exec's input.

use crate::system::clock::last_errno;
use guest_protocol::{TermSize, WINDOW};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadResult {
    /// This many bytes.
    Bytes(usize),
    /// Nothing now.
    WouldBlock,
    /// The end of the stream.
    Eof,
}

/// Makes reads and writes of a descriptor non-blocking.
pub(crate) fn set_nonblocking(fd: &OwnedFd) -> rustix::io::Result<()> {
    rustix::fs::fcntl_setfl(fd, rustix::fs::fcntl_getfl(fd)? | OFlags::NONBLOCK)
}

/// Reads once.
pub(crate) fn read(fd: &OwnedFd, buffer: &mut [u8]) -> ReadResult {
    match rustix::io::read(fd, buffer) {
        Ok(0) => ReadResult::Eof,
        Ok(n) => ReadResult::Bytes(n),
        Err(Errno::AGAIN | Errno::INTR) => ReadResult::WouldBlock,
        // A terminal without users left returns EIO.
        Err(_) => ReadResult::Eof,
    }
}

/// Bytes for a child's input, under the host's credit.
#[derive(Debug, Default)]
pub(crate) struct Input {
    pending: VecDeque<u8>,
    ended: bool,
    /// Bytes passed on, for which no credit was returned to the host yet.
    owed: u32,
}

impl Input {
    /// Queues bytes of the host; empty is the end of input. False if the host sent
    /// more than its credit.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            self.ended = true;
        } else if !self.ended {
            self.pending.extend(bytes);
        }
        self.pending.len() + self.owed as usize <= WINDOW as usize
    }

    /// Whether bytes wait to be written.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether the child's input should be closed now.
    pub(crate) fn is_done(&self) -> bool {
        self.ended && self.pending.is_empty()
    }

    /// Writes what the child takes; false if it has closed its input.
    pub(crate) fn write_to(&mut self, fd: &OwnedFd) -> bool {
        while !self.pending.is_empty() {
            let (front, _) = self.pending.as_slices();
            match rustix::io::write(fd, front) {
                Ok(n) => self.passed(n),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => {
                    self.discard();
                    return false;
                }
            }
        }
        true
    }

    /// Drops what waits, since the reader has gone. It counts as passed on.
    pub(crate) fn discard(&mut self) {
        self.passed(self.pending.len());
    }

    fn passed(&mut self, count: usize) {
        self.pending.drain(..count);
        self.owed = self.owed.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Credit to return to the host now: not for every byte, but before it runs out.
    pub(crate) fn take_credit(&mut self) -> Option<u32> {
        let due = self.owed >= WINDOW / 4 || (self.owed > 0 && self.pending.is_empty());
        due.then(|| std::mem::take(&mut self.owed))
    }
}

/// Opens a terminal: init's side and the child's side.
pub(crate) fn open_terminal(size: TermSize) -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let ours = rustix::fs::open("/dev/ptmx", flags, Mode::empty())?;
    let unlocked: libc::c_int = 0;
    // SAFETY: the requests are those of ioctl_tty(2): the first reads an int,
    // the second makes a new descriptor from open flags.
    let theirs = unsafe {
        if libc::ioctl(ours.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) < 0 {
            return Err(last_errno());
        }
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let fd = libc::ioctl(ours.as_raw_fd(), libc::TIOCGPTPEER, flags);
        if fd < 0 {
            return Err(last_errno());
        }
        OwnedFd::from_raw_fd(fd)
    };
    resize(&ours, size);
    Ok((ours, theirs))
}

/// Sets the size of a terminal; its foreground job gets SIGWINCH.
pub(crate) fn resize(terminal: &impl AsFd, size: TermSize) {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize.
    unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> (OwnedFd, OwnedFd) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        set_nonblocking(&writer).unwrap();
        (reader, writer)
    }

    #[test]
    fn credit_comes_back_for_what_was_passed_on_only() {
        let (reader, writer) = pipe();
        let mut input = Input::default();
        assert!(input.take(&vec![1; WINDOW as usize]));
        assert!(input.write_to(&writer));
        // A pipe holds 64 KiB, which is the quarter at which credit is given.
        assert_eq!(input.take_credit(), Some(64 * 1024));
        assert_eq!(input.take_credit(), None);
        assert_eq!(read(&reader, &mut [0; 1000]), ReadResult::Bytes(1000));
        input.discard();
        assert_eq!(input.take_credit(), Some(192 * 1024));
    }

    #[test]
    fn a_host_that_overdraws_is_noticed() {
        let mut input = Input::default();
        assert!(input.take(&vec![1; WINDOW as usize]));
        assert!(!input.take(&[1]));
    }

    #[test]
    fn the_end_comes_after_the_bytes_and_nothing_after_the_end() {
        let (reader, writer) = pipe();
        let mut input = Input::default();
        assert!(input.take(b"abc") && input.take(b"") && input.take(b"more"));
        assert!(!input.is_done());
        assert!(input.write_to(&writer) && input.is_done());
        let mut got = [0; 8];
        assert_eq!(read(&reader, &mut got), ReadResult::Bytes(3));
        drop(writer);
        assert_eq!(read(&reader, &mut got), ReadResult::Eof);
    }

    #[test]
    fn input_for_a_reader_that_is_gone_is_credited() {
        let (reader, writer) = pipe();
        drop(reader);
        // SAFETY: SIG_IGN is a valid disposition; init runs with it too.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        let mut input = Input::default();
        assert!(input.take(b"abc"));
        assert!(!input.write_to(&writer));
        assert_eq!(input.take_credit(), Some(3));
    }
}
