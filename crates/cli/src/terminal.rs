//! The terminal in raw mode, and back whatever happens.

use rustix::stdio;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use wire::guest::TermSize;

/// While it lives the terminal passes every key on; its drop restores it, also
/// when a panic unwinds.
#[derive(Debug)]
pub(crate) struct Raw(Termios);

impl Raw {
    /// Puts the terminal on stdin into raw mode.
    pub(crate) fn enter() -> std::io::Result<Self> {
        let saved = tcgetattr(stdio::stdin())?;
        let mut raw = saved.clone();
        raw.make_raw();
        tcsetattr(stdio::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(saved))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing can be done if the terminal has gone.
        let _ = tcsetattr(stdio::stdin(), OptionalActions::Now, &self.0);
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
