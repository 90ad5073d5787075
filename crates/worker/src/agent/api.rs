//! Connections of a guest's processes to the Machines API, as streams of bytes.
//!
//! Invariant: a guest has at most [`API_CONNECTIONS`] of them, and each sends at most
//! [`API_WINDOW`] bytes in all, so the reader never waits for the handler.

use super::mutex::lock;
use super::outgoing::Outgoing;
use crate::ports::GuestApi;
use guest_protocol::{API_CONNECTIONS, API_WINDOW, ApiId, MAX_CHUNK, ToGuest};
use host_api::GuestListener;
use model::id::MachineId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Bytes under way between a connection and its handler.
const PIPE: usize = 16 << 10;

/// The machine that the connections belong to, and their handler.
#[derive(Clone)]
pub(crate) struct ApiFor {
    pub(crate) machine: MachineId,
    pub(crate) app: String,
    /// `None` refuses them all.
    pub(crate) handler: Option<Arc<dyn GuestApi>>,
}

pub(super) struct Api {
    whose: ApiFor,
    outgoing: Outgoing,
    tasks: rt::Tasks,
    open: Mutex<HashMap<ApiId, Open>>,
    /// How many connections are open.
    count: watch::Sender<usize>,
    /// No connection is accepted any more.
    refusing: CancellationToken,
    /// Open connections are cut.
    cut: CancellationToken,
}

struct Open {
    /// `None` once the guest has closed it.
    bytes: Option<mpsc::UnboundedSender<Vec<u8>>>,
    left: usize,
}

impl Api {
    pub(super) fn new(whose: ApiFor, outgoing: Outgoing, tasks: rt::Tasks) -> Arc<Self> {
        let (open, count) = (Mutex::default(), watch::Sender::new(0));
        let (refusing, cut) = Default::default();
        Arc::new(Self { whose, outgoing, tasks, open, count, refusing, cut })
    }

    pub(super) fn open(self: &Arc<Self>, id: ApiId, listener: GuestListener) {
        let mut open = lock(&self.open);
        let taken = open.contains_key(&id);
        let full = open.len() >= API_CONNECTIONS || self.refusing.is_cancelled();
        let Some(handler) = self.whose.handler.as_ref().filter(|_| !full && !taken) else {
            return self.outgoing.try_send(&ToGuest::ApiEnd(id));
        };
        let (bytes, arrivals) = mpsc::unbounded_channel();
        open.insert(id, Open { bytes: Some(bytes), left: API_WINDOW });
        self.count.send_replace(open.len());
        drop(open);
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let (reader, writer) = tokio::io::split(ours);
        self.tasks.spawn_until_stop(self.clone().serve(id, reader, writer, arrivals));
        handler.serve(self.whose.machine, &self.whose.app, listener, Box::new(theirs));
    }

    pub(super) fn data(&self, id: ApiId, bytes: Vec<u8>) {
        let mut open = lock(&self.open);
        let Some(entry) = open.get_mut(&id).filter(|_| !bytes.is_empty()) else { return };
        match entry.left.checked_sub(bytes.len()) {
            Some(left) => {
                entry.left = left;
                // The handler may have ended meanwhile.
                entry.bytes.as_ref().map(|sender| sender.send(bytes).ok());
            }
            // It sent more than it may: it is closed.
            None => entry.bytes = None,
        }
    }

    /// The guest has closed a connection.
    pub(super) fn end(&self, id: ApiId) {
        if let Some(open) = lock(&self.open).get_mut(&id) {
            open.bytes = None;
        }
    }

    /// Forwards bytes both ways until the handler is done.
    async fn serve(
        self: Arc<Self>,
        id: ApiId,
        reader: ReadHalf<DuplexStream>,
        writer: WriteHalf<DuplexStream>,
        arrivals: mpsc::UnboundedReceiver<Vec<u8>>,
    ) {
        let pass = async {
            pass_requests(writer, arrivals).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.pass_answers(id, reader) => {}
            () = pass => {}
            () = self.cut.cancelled() => {}
        }
        // The guest may have ended, and then does not need it.
        let _ = self.outgoing.send(&ToGuest::ApiEnd(id)).await;
        let mut open = lock(&self.open);
        open.remove(&id);
        self.count.send_replace(open.len());
    }

    async fn pass_answers(&self, id: ApiId, mut reader: ReadHalf<DuplexStream>) {
        let mut buffer = vec![0; MAX_CHUNK];
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            let answer = ToGuest::ApiData(id, buffer[..read].to_vec());
            if self.outgoing.send(&answer).await.is_err() {
                return;
            }
        }
    }

    /// Accepts no more connections; waits until the open ones end, and cuts them after
    /// `timeout`.
    pub(super) async fn finish(&self, timeout: Duration) {
        self.refusing.cancel();
        let mut count = self.count.subscribe();
        // The sender lives as long as `self`; connections that are late are cut.
        let _ = tokio::time::timeout(timeout, count.wait_for(|count| *count == 0)).await;
        self.cut.cancel();
    }

    /// The session is over.
    pub(super) fn close(&self) {
        self.refusing.cancel();
        self.cut.cancel();
    }
}

async fn pass_requests(
    mut writer: WriteHalf<DuplexStream>,
    mut arrivals: mpsc::UnboundedReceiver<Vec<u8>>,
) {
    while let Some(bytes) = arrivals.recv().await {
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
    // The handler reads to the end and then closes it.
    let _ = writer.shutdown().await;
}
