//! Byte streams into and out of guests.

use crate::host::registry::Worker;
use crate::sessions::Session;
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use host_api::{
    CallContext, Connections, GuestConnection, GuestStream, HostError, Source, Upstream,
};
use model::life::State;
use std::io;
use std::net::SocketAddrV4;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[async_trait]
impl Connections for Worker {
    async fn connect(
        &self,
        context: CallContext,
        upstream: Upstream,
    ) -> io::Result<Box<dyn GuestStream>> {
        let host = &self.0.context;
        let over = || io::Error::new(io::ErrorKind::NotFound, "this boot of the machine has ended");
        let handle = self.machine_handle(upstream.machine).map_err(|_| over())?;
        let view = handle.view();
        let current = view.record.boot == Some(upstream.boot);
        let running = matches!(view.record.state, State::Started | State::Stopping);
        let addresses = view.addresses.filter(|_| current && running).ok_or_else(over)?;
        let session = (context.source != Source::Proxy).then(|| host.sessions.open(view.record.id));
        let connect = host.connector.connect(SocketAddrV4::new(addresses.ipv4, upstream.port));
        let connected = tokio::time::timeout(context.deadline.remaining(), connect).await;
        let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(Box::new(CountedStream { stream, _session: session }))
    }

    async fn guest_connections(
        &self,
        _context: CallContext,
    ) -> Result<BoxStream<'static, GuestConnection>, HostError> {
        let connections = self.0.context.guest_connections.subscribe();
        let connections = stream::unfold(connections, |mut connections| async move {
            connections.recv().await.map(|connection| (connection, connections))
        });
        Ok(connections.take_until(self.0.context.tasks.stopping()).boxed())
    }
}

/// A connection that counts as a session of its machine, unless it is an edge's.
struct CountedStream {
    stream: Box<dyn GuestStream>,
    _session: Option<Session>,
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
