//! The connections of one core to machines, HTTP/1.1.
//!
//! Invariant: a connection is used only for the boot of the machine it was made
//! to. A VM that is killed sends no FIN, so the pool forgets, and cuts, all
//! connections of a machine when the table reports that it no longer runs; tunnels,
//! which have left the pool, do so themselves. Idle ones
//! are closed sooner: when it begins to go down. A suspended guest then has no
//! connections that only it believes in, and after its resume none of before is
//! used, which might be alive or dead.

use crate::admission::machine::{ConnectionEpoch, Machine};
use crate::http::code::Code;
use crate::metrics::Metrics;
use crate::upstream::budget::UpstreamBudget;
use crate::upstream::connect::{NoConnection, connect};
use crate::upstream::request_body::{OutBody, Progress};
use crate::upstream::stream::{Received, UpstreamStream};
use host_api::Upstream;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rt::Silence;
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How long a connection is idle before it is closed. Servers that close idle
/// connections themselves wait for 5 s or more.
const KEEP: Duration = Duration::from_secs(4);
/// Idle connections per machine and core.
const KEEP_MOST: usize = 256;
/// Header fields of an app's answer.
const MAX_ANSWER_HEADERS: usize = 256;

/// The connections of one core. Its locks are this core's own.
#[derive(Debug)]
pub(crate) struct Pool {
    tasks: rt::Tasks,
    metrics: Metrics,
    budget: Arc<UpstreamBudget>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By the boot they were made to.
    boots: HashMap<BootKey, BootConnections>,
    next: u64,
}

type BootKey = (model::id::MachineId, model::id::BootId);

/// The connections to one boot of one machine.
#[derive(Debug)]
struct BootConnections {
    /// By internal port.
    idle: Vec<(u16, Idle)>,
    open: HashMap<u64, (ConnectionEpoch, AbortHandle)>,
    /// Closes what is no longer good when the machine's epoch changes.
    watcher: AbortHandle,
}

impl BootConnections {
    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.open.is_empty()
    }
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<OutBody>,
    received: Received,
    silence: Silence,
    epoch: ConnectionEpoch,
    since: Instant,
}

/// A connection in use.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) sender: SendRequest<OutBody>,
    /// Whether the app has sent something.
    pub(crate) received: Received,
    /// While something is to come from the app. It stays with the connection: a timer
    /// that is only moved costs less than a new one.
    pub(crate) silence: Silence,
    /// It has served a request before, so it may turn out to be closed.
    pub(crate) used: bool,
    pub(crate) progress: Option<Arc<Progress>>,
    pool: Arc<Pool>,
    upstream: Upstream,
    epoch: ConnectionEpoch,
    keep: bool,
}

impl Lease {
    /// The machine's epoch in which the connection was made.
    pub(crate) fn boot_epoch(&self) -> u64 {
        self.epoch.boot
    }

    /// Back to the pool, unless it must not be used again.
    pub(crate) fn give_back(self, machine: &Machine) {
        let uploaded = self.progress.as_ref().is_none_or(|p| p.ended.load(Relaxed));
        let is_good = machine.connection_epoch() == self.epoch;
        let is_kept = self.keep && !self.pool.budget.is_exhausted();
        if !is_kept || !uploaded || self.sender.is_closed() || !is_good {
            return;
        }
        let mut inner = self.pool.lock();
        // Absent if the watcher has just closed this boot's connections.
        let Some(of) = inner.boots.get_mut(&key(self.upstream)) else { return };
        if of.idle.len() < KEEP_MOST {
            let Self { sender, received, silence, epoch, .. } = self;
            let since = Instant::now();
            of.idle.push((self.upstream.port, Idle { sender, received, silence, epoch, since }));
        }
    }
}

fn key(upstream: Upstream) -> BootKey {
    (upstream.machine, upstream.boot)
}

/// Takes the connection out of the list of open ones when it ends.
struct Open(Arc<Pool>, BootKey, u64);

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(of) = self.0.lock().boots.get_mut(&self.1) {
            of.open.remove(&self.2);
        }
        self.0.metrics.upstream_open.dec();
    }
}

impl Pool {
    pub(crate) fn new(tasks: rt::Tasks, metrics: Metrics, budget: Arc<UpstreamBudget>) -> Self {
        Self { tasks, metrics, budget, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection to this boot of the machine, the last used first.
    pub(crate) async fn idle_connection(
        self: &Arc<Self>,
        machine: &Machine,
        upstream: Upstream,
    ) -> Option<Lease> {
        loop {
            let mut idle = self.take_idle(upstream)?;
            let is_good = idle.epoch == machine.connection_epoch();
            if is_good && idle.sender.ready().await.is_ok() {
                let Idle { sender, received, silence, epoch, .. } = idle;
                let (pool, progress) = (self.clone(), None);
                let (used, keep) = (true, true);
                return Some(Lease {
                    sender,
                    received,
                    silence,
                    used,
                    progress,
                    pool,
                    upstream,
                    epoch,
                    keep,
                });
            }
        }
    }

    fn take_idle(&self, upstream: Upstream) -> Option<Idle> {
        let mut inner = self.lock();
        let idle = &mut inner.boots.get_mut(&key(upstream))?.idle;
        let at = idle.iter().rposition(|(port, _)| *port == upstream.port)?;
        Some(idle.remove(at).1)
    }

    /// The right to one more connection. If there is none, the idle connections of this
    /// core are closed, and it waits for at most `limit`.
    async fn admit(&self, limit: Duration) -> Result<OwnedSemaphorePermit, NoConnection> {
        if let Some(permit) = self.budget.try_take() {
            return Ok(permit);
        }
        self.lock().boots.values_mut().for_each(|of| of.idle.clear());
        self.budget.take(limit).await.ok_or_else(|| NoConnection {
            code: Code::Pl01,
            why: format!("the edge had no connection to machines left for {limit:?}"),
        })
    }

    /// A new connection; `keep`: whether it may be used more than once. `limits` are
    /// for a free connection of the budget, and for the connect.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        machine: &Arc<Machine>,
        upstream: Upstream,
        keep: bool,
        (wait, limit): (Duration, Duration),
    ) -> Result<Lease, NoConnection> {
        let permit = self.admit(wait).await?;
        let epoch = machine.connection_epoch();
        let stream = connect(machine, upstream, epoch.boot, limit).await?;
        let received = Received::default();
        let io = TokioIo::new(UpstreamStream::new(stream, received.clone(), permit));
        let made = http1::Builder::new().max_headers(MAX_ANSWER_HEADERS).handshake(io).await;
        let (sender, conn) = made.map_err(|err| NoConnection {
            code: Code::Pc06,
            why: format!("internal port {}: {}", upstream.port, rt::chain(&err)),
        })?;
        self.metrics.upstream_connects.inc();
        self.metrics.upstream_open.inc();
        let mut inner = self.lock();
        inner.next += 1;
        let id = inner.next;
        let open = Open(self.clone(), key(upstream), id);
        let task = self.tasks.spawn(async move {
            let _open = open;
            // How it ended shows at the request that used it.
            let _ = conn.with_upgrades().await;
        });
        let watched = inner.boots.entry(key(upstream)).or_insert_with(|| BootConnections {
            idle: Vec::new(),
            open: HashMap::new(),
            watcher: self.watch(machine.clone(), key(upstream), epoch),
        });
        // The task cannot have ended yet: this thread is its only runner.
        watched.open.insert(id, (epoch, task.abort_handle()));
        if machine.boot_epoch() != epoch.boot {
            // It ended while the connection was made, before it was watched.
            task.abort();
        }
        drop(inner);
        let (pool, progress, used) = (self.clone(), None, false);
        let silence = Silence::default();
        Ok(Lease { sender, received, silence, used, progress, pool, upstream, epoch, keep })
    }

    /// Watches the machine while there are connections to this boot of it.
    fn watch(
        self: &Arc<Self>,
        machine: Arc<Machine>,
        key: BootKey,
        mut known: ConnectionEpoch,
    ) -> AbortHandle {
        let pool = self.clone();
        let watcher = self.tasks.spawn_until_stop(async move {
            loop {
                machine.epoch_changed(known).await;
                known = machine.connection_epoch();
                if pool.close_stale(key, known) {
                    return;
                }
            }
        });
        watcher.abort_handle()
    }

    /// Cuts connections to the boot if it has ended, and closes idle ones that must
    /// not be used again. True if none is left.
    fn close_stale(&self, key: BootKey, now: ConnectionEpoch) -> bool {
        let mut inner = self.lock();
        let Some(of) = inner.boots.get_mut(&key) else { return true };
        of.idle.retain(|(_, idle)| idle.epoch == now);
        of.open.retain(|_, (epoch, task)| {
            let is_good = epoch.boot == now.boot;
            if !is_good {
                task.abort();
            }
            is_good
        });
        let is_empty = of.is_empty();
        if is_empty {
            inner.boots.remove(&key);
        }
        is_empty
    }

    /// Closes connections that have been idle too long, and forgets boots without
    /// connections.
    pub(crate) fn sweep(&self) {
        let mut inner = self.lock();
        inner.boots.retain(|_, of| {
            of.idle.retain(|(_, idle)| idle.since.elapsed() < KEEP);
            let stays = !of.is_empty();
            if !stays {
                of.watcher.abort();
            }
            stays
        });
    }
}
