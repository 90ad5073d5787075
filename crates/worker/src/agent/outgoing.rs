//! What is said to a guest: one queue, which can be closed with its last byte
//! written.

use super::AgentError;
use super::greet::Writer;
use guest_protocol::ToGuest;
use guest_protocol::codec::encode;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

/// Frames that may wait for the guest to read them.
const FRAMES: usize = 256;

enum Item {
    Frame(Vec<u8>),
    /// Nothing is written after this one; says when all before it was.
    Last(oneshot::Sender<()>),
}

/// The queue. Clones are one queue.
#[derive(Clone)]
pub(super) struct Outgoing(mpsc::Sender<Item>);

/// Its other end.
pub(super) struct Frames(mpsc::Receiver<Item>);

pub(super) fn queue() -> (Outgoing, Frames) {
    let (sender, receiver) = mpsc::channel(FRAMES);
    (Outgoing(sender), Frames(receiver))
}

impl Outgoing {
    /// Waits while the guest does not read.
    pub(super) async fn say(&self, message: &ToGuest) -> Result<(), AgentError> {
        let frame = Item::Frame(encode(message));
        self.0.send(frame).await.map_err(|_| AgentError::Closed)
    }

    /// Says it only if there is room.
    pub(super) fn try_say(&self, message: &ToGuest) {
        // A guest that does not read misses it.
        let _ = self.0.try_send(Item::Frame(encode(message)));
    }

    /// Returns once everything that was said is written; nothing can be said from
    /// then on.
    pub(super) async fn finish(&self) -> Result<(), AgentError> {
        let (written, done) = oneshot::channel();
        self.0.send(Item::Last(written)).await.map_err(|_| AgentError::Closed)?;
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
                    // Closed first: who waits must find that nothing can follow.
                    drop(self);
                    if flushed.is_ok() {
                        // Who waited may have given up.
                        let _ = written.send(());
                    }
                    return;
                }
            }
        }
    }
}
