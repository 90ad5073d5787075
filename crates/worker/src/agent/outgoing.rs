//! Messages to a guest: one queue, which can be closed with its last byte written.

use super::error::AgentError;
use super::greet::Writer;
use guest_protocol::codec::encode_in;
use guest_protocol::{MAX_FRAME, ToGuest};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

/// Frames that may wait for the guest to read them.
const FRAMES: usize = 256;

enum Item {
    Frame(Vec<u8>),
    /// Nothing is written after this one; notifies when all before it was.
    Last(oneshot::Sender<()>),
}

/// The queue. Clones are one queue.
#[derive(Clone)]
pub(super) struct Outgoing {
    queue: mpsc::Sender<Item>,
    /// The version of the session.
    version: u16,
}

/// The other end of the queue.
pub(super) struct Frames(mpsc::Receiver<Item>);

/// A queue for a session of `version`.
pub(super) fn queue(version: u16) -> (Outgoing, Frames) {
    let (sender, receiver) = mpsc::channel(FRAMES);
    (Outgoing { queue: sender, version }, Frames(receiver))
}

impl Outgoing {
    /// Sends a message. Waits while the guest does not read.
    pub(super) async fn send(&self, message: &ToGuest) -> Result<(), AgentError> {
        let frame = Item::Frame(self.frame(message)?);
        self.queue.send(frame).await.map_err(|_| AgentError::Closed)
    }

    /// Sends a message if there is room.
    pub(super) fn try_send(&self, message: &ToGuest) {
        // A guest that does not read misses it.
        if let Ok(frame) = self.frame(message) {
            let _ = self.queue.try_send(Item::Frame(frame));
        }
    }

    fn frame(&self, message: &ToGuest) -> Result<Vec<u8>, AgentError> {
        let frame = encode_in(self.version, message).ok_or(AgentError::Version(self.version))?;
        // A guest drops a frame that is too long, and would never answer.
        match frame.len() {
            ..=MAX_FRAME => Ok(frame),
            bytes => Err(AgentError::TooLarge(bytes)),
        }
    }

    /// Returns once everything that was sent is written; nothing can be sent from
    /// then on.
    pub(super) async fn finish(&self) -> Result<(), AgentError> {
        let (written, done) = oneshot::channel();
        self.queue.send(Item::Last(written)).await.map_err(|_| AgentError::Closed)?;
        done.await.map_err(|_| AgentError::Closed)
    }
}

impl Frames {
    pub(super) async fn write_to(mut self, mut writer: Writer) {
        while let Some(item) = self.0.recv().await {
            match item {
                Item::Frame(frame) => {
                    if writer.write_all(&frame).await.is_err() {
                        // The reader sees the end too and reports it.
                        return;
                    }
                }
                Item::Last(written) => {
                    let flushed = writer.flush().await;
                    // Closed first: the caller must find that nothing can follow.
                    drop(self);
                    if flushed.is_ok() {
                        // The caller may have given up.
                        let _ = written.send(());
                    }
                    return;
                }
            }
        }
    }
}
