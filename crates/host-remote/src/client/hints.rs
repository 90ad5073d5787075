//! Calls without an answer: log lines, and machines that are drained. Under load, or
//! while the host does not answer, they are lost.

use super::{Inner, RemoteHost};
use futures_util::StreamExt;
use host_api::{CallContext, HostError, LogLine};
use model::id::{HostId, MachineId};
use rt::Tasks;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// Hints of one kind that wait to be sent; more are dropped.
const QUEUE: usize = 1024;
/// Lines that are sent with one call, and calls about drained machines at once.
const AT_ONCE: usize = 256;
/// Time for sending lines.
const LINES_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for reporting that a machine is drained, from the moment at which it is: the host
/// waits no longer for it.
const DRAINED_TIMEOUT: Duration = Duration::from_secs(1);

/// The queues of hints to one host.
pub(super) struct Hints {
    host: HostId,
    lines: mpsc::Sender<LogLine>,
    drained: mpsc::Sender<Drained>,
}

/// A machine that is drained, and until when that is of use.
type Drained = (CallContext, MachineId);

/// The other ends of the queues.
pub(super) struct Waiting {
    lines: mpsc::Receiver<LogLine>,
    drained: mpsc::Receiver<Drained>,
}

impl Hints {
    pub(super) fn new(host: HostId) -> (Self, Waiting) {
        let (lines, waiting_lines) = mpsc::channel(QUEUE);
        let (drained, waiting_drained) = mpsc::channel(QUEUE);
        let waiting = Waiting { lines: waiting_lines, drained: waiting_drained };
        (Self { host, lines, drained }, waiting)
    }

    pub(super) fn line(&self, line: LogLine) {
        self.note(self.lines.try_send(line).is_ok());
    }

    pub(super) fn drained(&self, machine: MachineId) {
        let hint = (CallContext::edge(DRAINED_TIMEOUT), machine);
        self.note(self.drained.try_send(hint).is_ok());
    }

    fn note(&self, is_queued: bool) {
        if !is_queued {
            tracing::debug!(host = self.host.0, "a hint to a host is dropped");
        }
    }
}

impl Waiting {
    /// Sends hints to `host` until it is not used any more. The kinds do not wait for each
    /// other.
    pub(super) fn send(self, host: &Arc<Inner>, tasks: &Tasks) {
        tasks.spawn_until_stop(send_lines(Arc::downgrade(host), self.lines));
        tasks.spawn_until_stop(send_drained(Arc::downgrade(host), self.drained));
    }
}

async fn send_lines(host: Weak<Inner>, mut queue: mpsc::Receiver<LogLine>) {
    let mut lines = Vec::new();
    while queue.recv_many(&mut lines, AT_ONCE).await > 0 {
        let Some(host) = host.upgrade().map(RemoteHost) else { return };
        let lines = std::mem::take(&mut lines);
        let sent = host.unary("append", CallContext::edge(LINES_TIMEOUT), &(lines,)).await;
        note_lost(&host, sent);
    }
}

async fn send_drained(host: Weak<Inner>, queue: mpsc::Receiver<Drained>) {
    let next = |mut queue: mpsc::Receiver<Drained>| async { Some((queue.recv().await?, queue)) };
    let all = futures_util::stream::unfold(queue, next);
    let send = |(context, machine): Drained| {
        let host = host.upgrade().map(RemoteHost);
        async move {
            if let Some(host) = host {
                let sent = host.unary("drained", context, &(machine,)).await;
                note_lost(&host, sent);
            }
        }
    };
    all.for_each_concurrent(AT_ONCE, send).await;
}

fn note_lost(host: &RemoteHost, sent: Result<(), HostError>) {
    if let Err(err) = sent {
        tracing::debug!(host = host.0.id.0, error = %err, "hints to a host are lost");
    }
}
