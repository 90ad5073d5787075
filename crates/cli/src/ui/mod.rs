//! The output for a person or a script: data on stdout, everything else on stderr.

pub(crate) mod diff;
pub(crate) mod progress;
pub(crate) mod select;
pub(crate) mod table;

use crate::error::{CliError, Exit, Result};
use crate::parse::{capitalized, lines};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::{self, BufRead, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use table::Fit;

/// Which of the three standard streams are terminals, and what they can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Questions can be asked.
    pub stdin: bool,
    /// The data goes to a terminal.
    pub stdout: bool,
    /// The progress goes to a terminal.
    pub stderr: bool,
    /// Colours are wanted (`NO_COLOR` is not set).
    pub color: bool,
    /// Width of the terminal on stdout; absent if there is none, and lines may
    /// be as long as they are.
    pub columns: Option<u16>,
}

/// Input and output of a command.
pub struct Ui {
    out: Box<dyn Write + Send>,
    notes: Notes,
    input: Option<Box<dyn BufRead + Send>>,
    /// The streams are those of the process, so its terminal can be drawn on.
    own_terminal: bool,
    /// Whether each is a terminal.
    pub term: Terminal,
}

/// Stderr: lines about what happens. Clones write to the same stream.
#[derive(Clone)]
pub(crate) struct Notes(Arc<Mutex<Box<dyn Write + Send>>>);

impl Notes {
    /// One line or several, their control characters made visible: parts may come
    /// from a guest or an image. A failed write is ignored: it must not stop a
    /// command.
    pub(crate) fn line(&self, text: &str) {
        self.bytes(format!("{}\n", lines(text)).as_bytes());
    }

    fn bytes(&self, bytes: &[u8]) {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    }
}

impl std::fmt::Debug for Ui {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ui").field("term", &self.term).finish_non_exhaustive()
    }
}

impl Ui {
    /// Input and output on these streams.
    pub fn new(
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
        input: Box<dyn BufRead + Send>,
        term: Terminal,
    ) -> Self {
        let notes = Notes(Arc::new(Mutex::new(err)));
        Self { out, notes, input: Some(input), own_terminal: false, term }
    }

    /// The standard streams of this process.
    pub fn stdio(no_color: bool) -> Self {
        use io::IsTerminal;
        let term = Terminal {
            stdin: io::stdin().is_terminal(),
            stdout: io::stdout().is_terminal(),
            stderr: io::stderr().is_terminal(),
            color: !no_color,
            columns: io::stdout().is_terminal().then(|| crate::session::terminal::size().cols),
        };
        let input = Box::new(io::BufReader::new(io::stdin()));
        let own = Self::new(Box::new(io::stdout()), Box::new(io::stderr()), input, term);
        Self { own_terminal: true, ..own }
    }

    /// Lists can be drawn and keys be read: this is the terminal of a person.
    pub(crate) fn is_own_terminal(&self) -> bool {
        self.own_terminal && self.term.stdin && self.term.stderr
    }

    /// A handle for lines that come while a command works.
    pub(crate) fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// One line, or a block that ends in a newline, of data.
    pub(crate) fn data(&mut self, text: &str) -> Result<()> {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        self.bytes(format!("{text}{end}").as_bytes())
    }

    /// Data as it is.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).and_then(|()| self.out.flush()).map_err(|err| output(&err))
    }

    /// A value as JSON, indented.
    pub(crate) fn json<T: Serialize>(&mut self, value: &T) -> Result<()> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|err| CliError::failed("Cannot print JSON").because_of(&err))?;
        self.data(&text)
    }

    /// A value as one line of JSON.
    pub(crate) fn json_line<T: Serialize>(&mut self, value: &T) -> Result<()> {
        let text = serde_json::to_string(value)
            .map_err(|err| CliError::failed("Cannot print JSON").because_of(&err))?;
        self.data(&text)
    }

    /// A line about what happens. A failed write is ignored: it must not stop a command.
    pub(crate) fn status(&mut self, text: &str) {
        self.notes.line(text);
    }

    /// Bytes to stderr, as they are.
    pub(crate) fn error_bytes(&mut self, bytes: &[u8]) {
        self.notes.bytes(bytes);
    }

    /// Shows why a command failed and returns the exit code.
    pub(crate) fn fail(&mut self, error: &CliError) -> u8 {
        if error.kind != Exit::BrokenPipe {
            let mut text = error.render();
            if self.term.stderr && self.term.color {
                text = text.replacen("Error:", "\x1b[1;31mError:\x1b[0m", 1);
            }
            self.error_bytes(text.as_bytes());
        }
        error.kind.code()
    }

    /// Asks a yes-or-no question; `yes` has answered it beforehand.
    pub(crate) fn confirm(&mut self, question: &str, yes: bool) -> Result<bool> {
        if yes {
            return Ok(true);
        }
        if !self.term.stdin {
            let text = format!("Cannot ask: {question}");
            let error = CliError::usage(text).because("The input is not a terminal");
            return Err(error.hint("Give --yes to answer yes to every question."));
        }
        let answer = self.ask(&format!("{question} (y/N) "))?;
        Ok(matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Asks for a line; the caller knows that the input is a terminal.
    pub(crate) fn ask(&mut self, question: &str) -> Result<String> {
        self.error_bytes(question.as_bytes());
        let mut line = String::new();
        if let Some(input) = &mut self.input {
            let read = input.read_line(&mut line);
            read.map_err(|err| CliError::failed("Cannot read the answer").because_of(&err))?;
        }
        Ok(line.trim().to_owned())
    }

    /// A value as given, else asked for. `what` is a noun with its article: `the name of the app`.
    pub(crate) fn value(
        &mut self,
        given: Option<String>,
        what: &str,
        hint: &str,
    ) -> Result<String> {
        let missing = || CliError::usage(format!("{} is not given", capitalized(what))).hint(hint);
        let value = match given {
            None if self.term.stdin => self.ask(&format!("{}: ", capitalized(what)))?,
            given => given.unwrap_or_default(),
        };
        if value.is_empty() { Err(missing()) } else { Ok(value) }
    }

    /// Hands over the input, for a command in a machine.
    pub(crate) fn take_input(&mut self) -> Option<Box<dyn BufRead + Send>> {
        self.input.take()
    }

    /// Room for a table on stdout.
    pub(crate) fn fit<'a>(&self, dispensable: &'a [&'a str]) -> Fit<'a> {
        Fit { columns: self.term.columns, dispensable }
    }

    /// A spinner while something takes long; nothing unless on a terminal.
    pub(crate) fn spinner(&self, text: &str) -> Spinner {
        let bars = self.bars();
        let bar = bars.add(ProgressBar::new_spinner());
        bar.set_message(text.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Spinner(bar)
    }

    /// Where progress bars are drawn; hidden unless on a terminal.
    pub(crate) fn bars(&self) -> MultiProgress {
        let target = if self.term.stderr {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        MultiProgress::with_draw_target(target)
    }
}

/// A spinner that is cleared when dropped.
#[derive(Debug)]
pub(crate) struct Spinner(ProgressBar);

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// How a bar that counts bytes looks.
pub(crate) fn byte_bar(name: &str, total: u64) -> ProgressBar {
    let bar = if total == 0 { ProgressBar::no_length() } else { ProgressBar::new(total) };
    // The template is ours, so it parses; if not, the default look will do.
    if let Ok(style) = ProgressStyle::with_template("{msg:24!} {bar:30} {bytes}/{total_bytes}") {
        bar.set_style(style);
    }
    bar.set_message(name.to_owned());
    bar
}

fn output(err: &io::Error) -> CliError {
    let kind = match err.kind() {
        io::ErrorKind::BrokenPipe => Exit::BrokenPipe,
        _ => Exit::Failed,
    };
    CliError::new(kind, "Cannot write the output").because_of(err)
}
