//! Commands that run in a guest, with credit in both directions.
//!
//! Invariant: a command has at most [`WINDOW`] bytes of output here; the guest gets
//! credit for what the client has taken. A guest that sends more than its credit
//! loses that command, without effect on others.

use super::error::AgentError;
use super::mutex::lock;
use super::outgoing::Outgoing;
use guest_protocol::{
    Exec, ExecErrorKind, ExecId, Exit, MAX_CHUNK, MAX_FRAME, Output, ToGuest, UnitId, WINDOW,
};
use host_api::{ExecError, ExecInput, ExecOutput, ExecStart};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;

/// Commands that may run at once in one guest.
const MAX_RUNNING: usize = 64;
/// How much later than its timeout a guest may report the end of a command.
const TIMEOUT_GRACE: Duration = Duration::from_secs(10);
/// Time for a guest that does not read to take up a command.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;

fn term_size(size: wire::exec::TermSize) -> guest_protocol::TermSize {
    guest_protocol::TermSize { rows: size.rows, cols: size.cols }
}

pub(super) struct Execs {
    outgoing: Outgoing,
    running: Mutex<HashMap<ExecId, Arc<Running>>>,
    next: AtomicU32,
}

struct Running {
    buffer: Mutex<Buffer>,
    /// The buffer has changed.
    filled: Notify,
    /// Bytes of input that the guest has room for.
    room: Semaphore,
}

#[derive(Default)]
struct Buffer {
    /// Neighbouring pieces of one stream are joined, so the number of pieces is
    /// bounded by the bytes.
    pieces: VecDeque<(Output, Vec<u8>)>,
    bytes: usize,
    end: Option<ExecOutput>,
}

impl Execs {
    pub(super) fn new(outgoing: Outgoing) -> Self {
        Self { outgoing, running: Mutex::default(), next: AtomicU32::new(1) }
    }

    pub(super) fn start(
        self: Arc<Self>,
        exec: ExecStart,
        unit: Option<UnitId>,
        tasks: &rt::Tasks,
    ) -> (mpsc::Sender<ExecInput>, mpsc::Receiver<ExecOutput>) {
        let (input, inputs) = mpsc::channel(16);
        let (outputs, output) = mpsc::channel(16);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let run = Arc::new(Running {
            buffer: Mutex::default(),
            filled: Notify::new(),
            room: Semaphore::new(WINDOW as usize),
        });
        let mut running = lock(&self.running);
        if running.len() >= MAX_RUNNING {
            let why = format!("{MAX_RUNNING} commands run in this machine already");
            run.end(ExecOutput::Failed(ExecError::Busy(why)));
        } else {
            running.insert(id, run.clone());
        }
        drop(running);
        tasks.spawn_until_stop(self.drive((id, unit), exec, run, inputs, outputs));
        (input, output)
    }

    async fn drive(
        self: Arc<Self>,
        (id, unit): (ExecId, Option<UnitId>),
        exec: ExecStart,
        run: Arc<Running>,
        inputs: mpsc::Receiver<ExecInput>,
        outputs: mpsc::Sender<ExecOutput>,
    ) {
        // The guest keeps the timeout; this is for one that does not.
        let timeout = exec.timeout_ms.map(Duration::from_millis);
        let deadline =
            timeout.and_then(|timeout| Instant::now().checked_add(timeout + TIMEOUT_GRACE));
        let request = Exec {
            argv: exec.argv,
            env: exec.env,
            user: exec.user,
            workdir: None,
            unit,
            tty: exec.tty.map(term_size),
            timeout_ms: exec.timeout_ms,
        };
        if self.is_running(id) {
            let request = ToGuest::Exec(id, request);
            let sent = tokio::time::timeout(SEND_TIMEOUT, self.outgoing.send(&request)).await;
            if let Err(err) = sent.unwrap_or(Err(AgentError::Deadline(SEND_TIMEOUT))) {
                lock(&self.running).remove(&id);
                run.end(refusal(&err));
            }
        }
        let pass = async {
            self.pass_input(id, &run, inputs).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.pass_output(id, &run, &outputs, deadline) => {}
            () = pass => {}
        }
        if lock(&self.running).remove(&id).is_some() {
            // The client has left, or the guest is late.
            let _ = self.outgoing.send(&ToGuest::ExecSignal(id, SIGKILL)).await;
        }
    }

    /// Returns when the command has ended, its client has left, or the guest has not
    /// reported the end by the deadline.
    async fn pass_output(
        &self,
        id: ExecId,
        run: &Running,
        outputs: &mpsc::Sender<ExecOutput>,
        deadline: Option<Instant>,
    ) {
        loop {
            let (piece, end) = run.take();
            if let Some((stream, bytes)) = piece {
                let taken = bytes.len() as u32;
                let output = match stream {
                    Output::Stdout => ExecOutput::Stdout(bytes),
                    Output::Stderr => ExecOutput::Stderr(bytes),
                };
                if outputs.send(output).await.is_err() {
                    return;
                }
                // The guest may have ended; the rest of the buffer is still good.
                let _ = self.outgoing.send(&ToGuest::ExecCredit(id, taken)).await;
            } else if let Some(end) = end {
                // The client may have left.
                let _ = outputs.send(end).await;
                lock(&self.running).remove(&id);
                return;
            } else {
                tokio::select! {
                    () = run.filled.notified() => {}
                    () = outputs.closed() => return,
                    () = sleep_until(deadline) => {
                        let text = "the guest did not end the command at its timeout";
                        let late = ExecError::DeadlineExceeded(text.into());
                        let _ = outputs.send(ExecOutput::Failed(late)).await;
                        return;
                    }
                }
            }
        }
    }

    /// Returns at the end of input; the command runs on.
    async fn pass_input(&self, id: ExecId, run: &Running, mut inputs: mpsc::Receiver<ExecInput>) {
        while let Some(input) = inputs.recv().await {
            let sent = match input {
                ExecInput::Data(bytes) if bytes.is_empty() => {
                    self.send(&ToGuest::ExecInput(id, bytes)).await
                }
                ExecInput::Data(bytes) => self.pass_bytes(id, run, &bytes).await,
                ExecInput::Resize(size) => {
                    self.send(&ToGuest::ExecResize(id, term_size(size))).await
                }
                ExecInput::Signal(signal) => self.send(&ToGuest::ExecSignal(id, signal)).await,
            };
            if sent.is_err() {
                return;
            }
        }
    }

    async fn pass_bytes(&self, id: ExecId, run: &Running, bytes: &[u8]) -> Result<(), ()> {
        for chunk in bytes.chunks(MAX_CHUNK) {
            let room = run.room.acquire_many(chunk.len() as u32).await.map_err(drop)?;
            room.forget();
            self.send(&ToGuest::ExecInput(id, chunk.to_vec())).await?;
        }
        Ok(())
    }

    async fn send(&self, message: &ToGuest) -> Result<(), ()> {
        self.outgoing.send(message).await.map_err(drop)
    }

    fn is_running(&self, id: ExecId) -> bool {
        lock(&self.running).contains_key(&id)
    }

    fn get(&self, id: ExecId) -> Option<Arc<Running>> {
        lock(&self.running).get(&id).cloned()
    }

    /// Takes output; false if there was no credit for it.
    pub(super) fn output(&self, id: ExecId, stream: Output, bytes: Vec<u8>) -> bool {
        let Some(run) = self.get(id) else { return false };
        let taken = run.put(stream, bytes);
        if !taken {
            lock(&self.running).remove(&id);
            let why = "the guest sent more output than it had credit for";
            run.end(ExecOutput::Failed(ExecError::Malformed(why.into())));
        }
        taken
    }

    pub(super) fn credit(&self, id: ExecId, bytes: u32) {
        let Some(run) = self.get(id) else { return };
        // A guest that gives more credit than it has taken hurts only itself, but
        // the number must stay within the range of a semaphore.
        let missing = (WINDOW as usize).saturating_sub(run.room.available_permits());
        run.room.add_permits(missing.min(bytes as usize));
    }

    pub(super) fn exited(&self, id: ExecId, exit: Exit) {
        if let Some(run) = self.get(id) {
            run.end(ExecOutput::Exited { code: exit.code, signal: exit.signal });
        }
    }

    pub(super) fn failed(&self, id: ExecId, why: String, kind: Option<ExecErrorKind>) {
        if let Some(run) = self.get(id) {
            run.end(ExecOutput::Failed(match kind {
                Some(ExecErrorKind::NotFound) => ExecError::NotFound(why),
                Some(ExecErrorKind::NotExecutable) => ExecError::NotExecutable(why),
                None => ExecError::Refused(why),
            }));
        }
    }

    /// Ends all commands.
    pub(super) fn end(&self, why: &str) {
        for (_, run) in lock(&self.running).drain() {
            run.end(ExecOutput::Failed(ExecError::Lost(why.into())));
        }
    }
}

/// Why a command could not be sent to the guest.
fn refusal(err: &AgentError) -> ExecOutput {
    ExecOutput::Failed(match err {
        AgentError::TooLarge(bytes) => ExecError::TooLarge(format!(
            "arguments and environment take {bytes} bytes, the most is {MAX_FRAME}: \
             pass them as input or in a file"
        )),
        AgentError::Version(_) => {
            ExecError::Unsupported(format!("{err}: restart the machine to run commands in it"))
        }
        AgentError::Deadline(limit) => {
            ExecError::DeadlineExceeded(format!("the guest did not take the command in {limit:?}"))
        }
        _ => ExecError::Lost("the machine has stopped".into()),
    })
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Buffer {
    /// Pieces that may wait: two streams that alternate byte by byte lose their order
    /// beyond this, not their bytes.
    const PIECES: usize = 1024;

    fn join(&mut self, stream: Output, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let crowded = self.pieces.len() >= Self::PIECES;
        let mut newest = self.pieces.iter_mut().rev();
        let place = match crowded {
            true => newest.find(|(of, _)| *of == stream),
            false => newest.next().filter(|(of, _)| *of == stream),
        };
        match place {
            Some((_, joined)) => joined.extend_from_slice(&bytes),
            None => self.pieces.push_back((stream, bytes)),
        }
    }
}

impl Running {
    /// False if there was no credit for it.
    fn put(&self, stream: Output, bytes: Vec<u8>) -> bool {
        let mut buffer = lock(&self.buffer);
        if buffer.bytes + bytes.len() > WINDOW as usize {
            return false;
        }
        buffer.bytes += bytes.len();
        buffer.join(stream, bytes);
        drop(buffer);
        self.filled.notify_one();
        true
    }

    fn take(&self) -> (Option<(Output, Vec<u8>)>, Option<ExecOutput>) {
        let mut buffer = lock(&self.buffer);
        let piece = buffer.pieces.pop_front();
        buffer.bytes -= piece.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let end = if piece.is_none() { buffer.end.take() } else { None };
        (piece, end)
    }

    fn end(&self, how: ExecOutput) {
        let mut buffer = lock(&self.buffer);
        buffer.end.get_or_insert(how);
        drop(buffer);
        self.filled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_input_is_bounded_in_pieces_too() {
        let mut buffer = Buffer::default();
        for n in 0..100_000 {
            let stream = if n % 2 == 0 { Output::Stdout } else { Output::Stderr };
            buffer.join(stream, vec![b'x'; n % 3]);
        }
        assert!(buffer.pieces.len() <= Buffer::PIECES + 1);
        let bytes: usize = buffer.pieces.iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(bytes, (0..100_000).map(|n| n % 3).sum::<usize>());
    }
}
