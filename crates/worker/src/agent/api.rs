//! Connections of a guest's processes to its `/.fly/api`, as streams of bytes.
//!
//! Invariant: a guest has at most [`API_CONNECTIONS`] of them, and each brings at most
//! [`API_WINDOW`] bytes in all, so the reader never waits for whoever serves them.

use super::lock;
use super::outgoing::Outgoing;
use crate::ports::GuestApi;
use guest_protocol::{API_CONNECTIONS, API_WINDOW, ApiId, MAX_CHUNK, ToGuest};
use model::id::MachineId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Bytes under way between a connection and who serves it.
const PIPE: usize = 16 << 10;

/// Whose connections they are, and who serves them.
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
    /// How many are open.
    count: watch::Sender<usize>,
    /// None is accepted any more; those that are open are cut.
    closed: [CancellationToken; 2],
}

struct Open {
    /// Dropped once the guest has closed it.
    bytes: Option<mpsc::UnboundedSender<Vec<u8>>>,
    left: usize,
}

impl Api {
    pub(super) fn new(whose: ApiFor, outgoing: Outgoing, tasks: rt::Tasks) -> Arc<Self> {
        let (open, count) = (Mutex::default(), watch::Sender::new(0));
        Arc::new(Self { whose, outgoing, tasks, open, count, closed: Default::default() })
    }

    pub(super) fn open(self: &Arc<Self>, id: ApiId) {
        let mut open = lock(&self.open);
        let taken = open.contains_key(&id);
        let full = open.len() >= API_CONNECTIONS || self.closed[0].is_cancelled();
        let Some(handler) = self.whose.handler.as_ref().filter(|_| !full && !taken) else {
            return self.outgoing.try_say(&ToGuest::ApiEnd(id));
        };
        let (bytes, arrivals) = mpsc::unbounded_channel();
        open.insert(id, Open { bytes: Some(bytes), left: API_WINDOW });
        self.count.send_replace(open.len());
        drop(open);
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let (reader, writer) = tokio::io::split(ours);
        self.tasks.spawn_until_stop(self.clone().serve(id, reader, writer, arrivals));
        handler.serve(self.whose.machine, &self.whose.app, Box::new(theirs));
    }

    pub(super) fn data(&self, id: ApiId, bytes: Vec<u8>) {
        let mut open = lock(&self.open);
        let Some(entry) = open.get_mut(&id).filter(|_| !bytes.is_empty()) else { return };
        match entry.left.checked_sub(bytes.len()) {
            Some(left) => {
                entry.left = left;
                // Who serves it may have ended it meanwhile.
                entry.bytes.as_ref().map(|sender| sender.send(bytes).ok());
            }
            // It brought more than it may: it is ended from here.
            None => entry.bytes = None,
        }
    }

    /// The guest has closed it.
    pub(super) fn end(&self, id: ApiId) {
        if let Some(open) = lock(&self.open).get_mut(&id) {
            open.bytes = None;
        }
    }

    /// Carries bytes both ways until who serves it is done.
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
            () = self.closed[1].cancelled() => {}
        }
        // The guest may have gone; then it needs no word of it.
        let _ = self.outgoing.say(&ToGuest::ApiEnd(id)).await;
        let mut open = lock(&self.open);
        open.remove(&id);
        self.count.send_replace(open.len());
    }

    async fn pass_answers(&self, id: ApiId, mut reader: ReadHalf<DuplexStream>) {
        let mut buffer = vec![0; MAX_CHUNK];
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            let answer = ToGuest::ApiData(id, buffer[..read].to_vec());
            if self.outgoing.say(&answer).await.is_err() {
                return;
            }
        }
    }

    /// Accepts no more, and gives those that are open so long to end.
    pub(super) async fn finish(&self, patience: Duration) {
        self.closed[0].cancel();
        let mut count = self.count.subscribe();
        // The sender lives as long as `self`; whoever is late is cut.
        let _ = tokio::time::timeout(patience, count.wait_for(|count| *count == 0)).await;
        self.closed[1].cancel();
    }

    /// The session is over.
    pub(super) fn close(&self) {
        self.closed.iter().for_each(CancellationToken::cancel);
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
    // Who serves it reads to the end and then closes it.
    let _ = writer.shutdown().await;
}
