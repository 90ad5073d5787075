//! Bytes between a connection and the two bodies of a call.

use crate::codec::{FrameReader, PlainSender};
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

const CHUNK: usize = 32 * 1024;
/// Time for a peer to end a connection that its other end has closed.
const LINGER: Duration = Duration::from_secs(5);

/// Passes bytes between `io` and a call until both directions have ended. An error
/// in one of them ends the other, too. Once `unread` has ended nothing reads from
/// `io` any more: the peer sees the end of its bytes, and has [`LINGER`] to end, too.
pub(crate) async fn pass_bytes(
    io: impl AsyncRead + AsyncWrite,
    mut body: FrameReader,
    sender: PlainSender,
    unread: impl Future<Output = ()>,
) -> io::Result<()> {
    let (from_io, mut to_io) = tokio::io::split(io);
    let inward = async move {
        let copied = async {
            while let Some(bytes) = body.bytes().await.map_err(io::Error::other)? {
                to_io.write_all(&bytes).await?;
            }
            to_io.shutdown().await
        };
        let unread = async move {
            unread.await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! {
            copied = copied => copied,
            () = unread => Ok(()),
        }
    };
    tokio::try_join!(inward, send_all(from_io, sender)).map(drop)
}

/// Sends what `reader` has, to its end, or until the peer reads no more: it may have
/// answered early.
pub(crate) async fn send_all(
    mut reader: impl AsyncRead + Unpin,
    sender: PlainSender,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(CHUNK);
    loop {
        buffer.reserve(CHUNK);
        if reader.read_buf(&mut buffer).await? == 0 {
            sender.finish();
            return Ok(());
        }
        if !sender.bytes(buffer.split().freeze()).await {
            return Ok(());
        }
    }
}

/// The plain bytes of a body, as a reader.
pub(crate) struct BodyRead {
    state: ReadState,
    left: Bytes,
}

type Next = (FrameReader, Result<Option<Bytes>, crate::codec::FrameError>);

enum ReadState {
    Reading(BoxFuture<'static, Next>),
    Ended,
}

impl BodyRead {
    pub(crate) fn new(body: FrameReader) -> Self {
        Self { state: ReadState::Reading(next(body)), left: Bytes::new() }
    }
}

fn next(mut body: FrameReader) -> BoxFuture<'static, Next> {
    Box::pin(async move {
        let bytes = body.bytes().await;
        (body, bytes)
    })
}

impl AsyncRead for BodyRead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.left.is_empty() {
                let count = self.left.len().min(buffer.remaining());
                buffer.put_slice(&self.left.split_to(count));
                return Poll::Ready(Ok(()));
            }
            let ReadState::Reading(reading) = &mut self.state else { return Poll::Ready(Ok(())) };
            match ready!(reading.as_mut().poll(context)) {
                (body, Ok(Some(bytes))) => {
                    self.left = bytes;
                    self.state = ReadState::Reading(next(body));
                }
                (_, Ok(None)) => self.state = ReadState::Ended,
                (_, Err(err)) => {
                    self.state = ReadState::Ended;
                    return Poll::Ready(Err(io::Error::other(err)));
                }
            }
        }
    }
}
