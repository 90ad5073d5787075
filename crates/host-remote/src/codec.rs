//! Frames of CBOR in the body of a request or an answer.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// Longest frame. Summaries of all machines of a full host are far below it; a list of
/// many whole configs may exceed it, and fails.
pub(crate) const MAX_FRAME: usize = 64 * 1024 * 1024;
/// Pieces of a body that wait for a slow peer.
const QUEUE: usize = 16;

/// Why a frame cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the peer closed the stream")]
    Ended,
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("a frame is not what was expected: {0}")]
    Malformed(String),
}

/// One frame.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, FrameError> {
    let mut frame = vec![0; 4];
    let written = ciborium::into_writer(value, &mut frame);
    written.map_err(|err| FrameError::Malformed(err.to_string()))?;
    let length = frame.len() - 4;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    let length = u32::try_from(length).map_err(|_| FrameError::TooLong(length))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.into())
}

/// Reads frames, then plain bytes, of a body.
#[derive(Debug)]
pub(crate) struct FrameReader {
    body: Incoming,
    buffered: BytesMut,
    limit: usize,
}

impl FrameReader {
    /// Frames of at most `limit` bytes.
    pub(crate) fn new(body: Incoming, limit: usize) -> Self {
        Self { body, buffered: BytesMut::new(), limit }
    }

    /// The next frame; [`FrameError::Ended`] where the body ends between frames.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<T, FrameError> {
        self.fill(4).await?;
        let length = self.buffered.get_u32() as usize;
        if length > self.limit {
            return Err(FrameError::TooLong(length));
        }
        self.fill(length).await?;
        let frame = self.buffered.split_to(length);
        ciborium::from_reader(&*frame).map_err(|err| FrameError::Malformed(err.to_string()))
    }

    async fn fill(&mut self, length: usize) -> Result<(), FrameError> {
        while self.buffered.len() < length {
            match self.more().await? {
                Some(bytes) => self.buffered.extend_from_slice(&bytes),
                None => return Err(FrameError::Ended),
            }
        }
        Ok(())
    }

    /// The next plain bytes; `None` at the end.
    pub(crate) async fn bytes(&mut self) -> Result<Option<Bytes>, FrameError> {
        if !self.buffered.is_empty() {
            return Ok(Some(self.buffered.split().freeze()));
        }
        self.more().await
    }

    async fn more(&mut self) -> Result<Option<Bytes>, FrameError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(FrameError::Broken)?;
            if let Ok(bytes) = frame.into_data()
                && !bytes.is_empty()
            {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

/// Writes a body piece by piece. The body ends when all clones are dropped.
#[derive(Clone, Debug)]
pub(crate) struct BodySender {
    pieces: mpsc::Sender<Bytes>,
    broken: Arc<AtomicBool>,
    closed: CancellationToken,
}

/// A body that comes from a [`BodySender`].
#[derive(Debug)]
pub(crate) struct ChannelBody {
    pieces: mpsc::Receiver<Bytes>,
    broken: Arc<AtomicBool>,
    _closed: DropGuard,
}

/// The body of a call has ended before all of it was sent.
#[derive(Debug, thiserror::Error)]
#[error("the rest of the body cannot be sent")]
pub(crate) struct BrokenOff;

/// A body and where it is written to.
pub(crate) fn channel() -> (BodySender, ChannelBody) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (broken, closed) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
    let body = ChannelBody {
        pieces: receiver,
        broken: broken.clone(),
        _closed: closed.clone().drop_guard(),
    };
    (BodySender { pieces: sender, broken, closed }, body)
}

impl BodySender {
    /// Sends a frame; false if the receiver is closed.
    pub(crate) async fn frame<T: Serialize + ?Sized>(&self, value: &T) -> bool {
        match encode(value) {
            Ok(frame) => self.bytes(frame).await,
            Err(err) => {
                tracing::error!(error = %err, "a message to a peer cannot be written");
                false
            }
        }
    }

    async fn bytes(&self, bytes: Bytes) -> bool {
        self.pieces.send(bytes).await.is_ok()
    }

    /// Queues the first bytes of a body.
    pub(crate) fn try_bytes(&self, bytes: Bytes) {
        // A new channel has room, and its reader is there.
        let _ = self.pieces.try_send(bytes);
    }

    /// Ends when the receiver is closed. It does not keep the body open.
    pub(crate) fn closed(&self) -> WaitForCancellationFutureOwned {
        self.closed.clone().cancelled_owned()
    }

    /// Plain bytes follow the frames.
    pub(crate) fn plain(self) -> PlainSender {
        PlainSender { sender: self, is_whole: false }
    }
}

/// Writes plain bytes, which nothing but the end of the body delimits. If it is
/// dropped before [`PlainSender::finish`], the peer gets an error in place of the
/// end: a part must not be taken for the whole.
#[derive(Debug)]
pub(crate) struct PlainSender {
    sender: BodySender,
    is_whole: bool,
}

impl PlainSender {
    /// Sends bytes; false if the receiver is closed.
    pub(crate) async fn bytes(&self, bytes: Bytes) -> bool {
        self.sender.bytes(bytes).await
    }

    /// Ends the body: all of it has been sent.
    pub(crate) fn finish(mut self) {
        self.is_whole = true;
    }
}

impl Drop for PlainSender {
    fn drop(&mut self) {
        if !self.is_whole {
            self.sender.broken.store(true, Ordering::Release);
        }
    }
}

impl http_body::Body for ChannelBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BrokenOff>>> {
        let piece = std::task::ready!(self.pieces.poll_recv(context));
        std::task::Poll::Ready(match piece {
            Some(bytes) => Some(Ok(http_body::Frame::data(bytes))),
            None if self.broken.swap(false, Ordering::Acquire) => Some(Err(BrokenOff)),
            None => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_api::{CallContext, HostError};
    use std::time::Duration;

    fn round_trip<T: Serialize + DeserializeOwned>(value: &T) -> T {
        let frame = encode(value).unwrap();
        ciborium::from_reader(&frame[4..]).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_comes_back() {
        let context = CallContext::control(Duration::from_secs(5)).keyed("k");
        assert_eq!(round_trip(&context), context);
        let refused: Result<u8, HostError> = Err(HostError::unreachable("away"));
        assert_eq!(round_trip(&refused), refused);
        let config: wire::machines::MachineConfig = Default::default();
        assert_eq!(round_trip(&config), config);
        let id = model::id::MachineId::from_random(77);
        assert_eq!(round_trip(&(id, Some(3_u8))), (id, Some(3)));
    }
}
