//! The terminal in raw mode, restored in every case.

use rustix::stdio;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io;
use std::os::fd::BorrowedFd;
use wire::exec::TermSize;

/// While it lives the terminal passes every key on; its drop restores it, also
/// when a panic unwinds.
#[derive(Debug)]
pub(crate) struct Raw<'fd> {
    terminal: BorrowedFd<'fd>,
    saved: Termios,
}

impl Raw<'static> {
    /// Puts the terminal on stdin into raw mode.
    pub(crate) fn stdin() -> io::Result<Self> {
        Raw::enter(stdio::stdin())
    }
}

impl<'fd> Raw<'fd> {
    fn enter(terminal: BorrowedFd<'fd>) -> io::Result<Self> {
        let saved = tcgetattr(terminal)?;
        let mut raw = saved.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, saved })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // Nothing can be done if the terminal has gone.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.saved);
    }
}

/// Size of the terminal on stdout, or the usual one.
pub(crate) fn size() -> TermSize {
    match tcgetwinsize(stdio::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            TermSize { rows: size.ws_row, cols: size.ws_col }
        }
        _ => TermSize { rows: 24, cols: 80 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::termios::LocalModes;
    use std::fs::OpenOptions;
    use std::os::fd::AsFd;

    #[test]
    fn the_terminal_comes_back_as_it_was() {
        let pty = OpenOptions::new().read(true).write(true).open("/dev/ptmx").unwrap();
        let modes = || tcgetattr(&pty).unwrap().local_modes;
        let before = modes();
        assert!(before.contains(LocalModes::ICANON | LocalModes::ECHO));
        let raw = Raw::enter(pty.as_fd()).unwrap();
        assert!(!modes().intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
        drop(raw);
        assert_eq!(modes(), before);
    }
}
