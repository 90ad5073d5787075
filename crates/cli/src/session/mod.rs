//! A command in a machine, attached to this terminal or these pipes.

pub(crate) mod terminal;

use crate::error::{CliError, ErrorContext, Result, exit_of_command};
use crate::ui::Ui;
use client::{ExecSink, ExecStream};
use std::io::{self, BufRead};
use terminal::Raw;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use wire::exec::{ExecInput, ExecOutput};

/// The local resources that the command gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attach {
    /// It has a terminal, so ours goes into raw mode.
    pub(crate) tty: bool,
    /// It reads our input; otherwise its input is empty.
    pub(crate) input: bool,
}

/// Blocks of input that wait for the network; more wait in the pipe.
const QUEUE: usize = 16;

/// Message of the failure when the machine has no such command.
pub(crate) const NOT_RUN: &str = "Cannot run the command in the machine";

/// Runs until the command has ended; its exit code.
pub(crate) async fn attach(ui: &mut Ui, stream: ExecStream, how: Attach) -> Result<u8> {
    let (keys, typed) = mpsc::channel(QUEUE);
    let on = |kind| signal(kind).context(|| "listen for signals".to_owned());
    let listen = Listen {
        resize: on(SignalKind::window_change())?,
        interrupt: on(SignalKind::interrupt())?,
        tty: how.tty,
    };
    let (mut term, mut hangup) = (on(SignalKind::terminate())?, on(SignalKind::hangup())?);
    let raw =
        if how.tty { Some(Raw::stdin().context(|| "use the terminal".into())?) } else { None };
    if let Some(input) = ui.take_input().filter(|_| how.input) {
        // Not a task: a read of a terminal cannot be cancelled, and the process
        // must be able to end while it waits.
        std::thread::spawn(move || read_all(input, &keys));
    } else {
        drop(keys);
    }
    let ExecStream { input, mut output } = stream;
    let mut feed = Box::pin(feed(input, typed, listen));
    let mut feeding = true;
    let outcome = loop {
        tokio::select! {
            biased;
            // Output first: its end makes input moot.
            message = output.next() => match message.context(|| "read the command's output".into()) {
                Ok(ExecOutput::Stdout(data)) => ui.bytes(&data)?,
                Ok(ExecOutput::Stderr(data)) => ui.error_bytes(&data),
                Ok(ExecOutput::Exited { code, signal }) => break Ok(exit_code(code, signal)),
                Ok(ExecOutput::Failed(body)) => {
                    let error = CliError::new(exit_of_command(&body), NOT_RUN).because(body.error);
                    break Err(body.hint.into_iter().fold(error, CliError::hint));
                }
                Err(err) => break Err(err),
            },
            _ = term.recv() => break Err(CliError::failed("Ended by SIGTERM")),
            _ = hangup.recv() => break Err(CliError::failed("The terminal has gone")),
            // That input cannot be sent any more shows as the end of the output.
            () = &mut feed, if feeding => feeding = false,
        }
    };
    drop(raw);
    outcome
}

/// Input besides the bytes that are typed.
struct Listen {
    resize: Signal,
    interrupt: Signal,
    tty: bool,
}

/// Sends input until the connection breaks. Apart from the output, so that a
/// command that waits for us to read cannot keep us from reading.
async fn feed(mut to: ExecSink, mut typed: mpsc::Receiver<Vec<u8>>, mut listen: Listen) {
    let mut open = true;
    loop {
        let next = tokio::select! {
            Some(()) = listen.resize.recv(), if listen.tty => ExecInput::Resize(terminal::size()),
            // In raw mode Ctrl-C is a byte; this comes from a `kill -INT`.
            Some(()) = listen.interrupt.recv() => ExecInput::Signal(2),
            data = typed.recv(), if open => {
                open = data.is_some();
                // Empty is the end of the input.
                ExecInput::Data(data.unwrap_or_default())
            }
        };
        if to.send(next).await.is_err() {
            return;
        }
    }
}

fn read_all(mut input: Box<dyn BufRead + Send>, keys: &mpsc::Sender<Vec<u8>>) {
    loop {
        let data = match input.fill_buf() {
            Ok([]) => return,
            Ok(data) => data.to_vec(),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        input.consume(data.len());
        if keys.blocking_send(data).is_err() {
            return;
        }
    }
}

/// The exit code of this process for that of the command.
pub(crate) fn exit_code(code: i32, signal: i32) -> u8 {
    let code = if code == 0 && signal != 0 { 128 + signal } else { code };
    // A code that does not fit must still not look like success.
    u8::try_from(code).unwrap_or(255)
}
