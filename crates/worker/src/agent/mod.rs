//! The host's side of the guest protocol: one session with one guest.
//!
//! The reader never waits for a client: output of execs goes into buffers that credit
//! bounds, reports go to the machine's task, logs are stored or dropped. Everything
//! that a guest sends is hostile: `claims` says what is believed of it, `intake` how
//! fast it is read.

mod api;
mod claims;
mod exec;
mod greet;
mod intake;
mod outgoing;
mod reader;
#[cfg(test)]
mod tests;

pub(crate) use api::ApiFor;
pub(crate) use greet::quiesce_for_template;

use crate::logs::LogStore;
use crate::ports::AgentIo;
use api::Api;
use exec::Execs;
use greet::{Greeting, greet};
use guest_protocol::{Exit, HIGHEST, LOWEST, MAX_FRAME, Phase, ToGuest};
use host_api::{ExecInput, ExecOutput, ExecStart};
use model::id::BootId;
use outgoing::Outgoing;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wire::machines::Process;

/// Time for a guest to list its processes.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// Before a suspend: time for answers of the API that are under way, and for the
/// guest to read what was sent.
const API_TIMEOUT: Duration = Duration::from_millis(200);
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What a guest reports about its main process; each at most once a session, so
/// that no guest can keep its machine's task busy.
#[derive(Debug)]
pub(crate) enum Report {
    Running {
        stages_ms: Vec<(String, f64)>,
    },
    Exited(Exit),
    ConfigFailed(String),
    /// The port is closed: the VM has ended.
    Lost,
}

/// Ports that listen and can be reached from the host.
pub(crate) type Ports = BTreeSet<u16>;

/// Why there is no session, or why a message was not sent in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// Transient: the guest is slow, or has not come so far.
    #[error("guest did not answer within {0:?}")]
    Deadline(Duration),
    /// Permanent, and no fault of the VM: it runs an init of another release. It is
    /// kept and managed through the hypervisor.
    #[error("guest speaks version {0} of the agent protocol, this host {LOWEST} to {HIGHEST}")]
    Version(u16),
    #[error("agent port failed")]
    Io(#[source] std::io::Error),
    #[error("guest closed its agent port")]
    Closed,
    #[error("guest has been configured already")]
    NotFresh,
    /// The message is not sent; the session goes on.
    #[error("message of {0} bytes is larger than {MAX_FRAME}")]
    TooLarge(usize),
}

/// The machine that a guest belongs to, and where its reports go.
#[derive(Clone)]
pub(crate) struct Listen {
    pub(crate) app: String,
    pub(crate) machine: String,
    /// Its log is numbered from the start of this boot.
    pub(crate) boot: Option<BootId>,
    pub(crate) logs: Arc<LogStore>,
    pub(crate) reports: mpsc::Sender<Report>,
    /// Holds the newest state, however often it changes.
    pub(crate) ports: watch::Sender<Ports>,
    pub(crate) api: ApiFor,
}

/// A session with a guest. Ends when the VM does.
pub(crate) struct Agent {
    outgoing: Outgoing,
    execs: Arc<Execs>,
    api: Arc<Api>,
    lists: Mutex<HashMap<u32, oneshot::Sender<Vec<Process>>>>,
    next_list: AtomicU32,
    /// It has reported that its main process runs.
    reported_running: AtomicBool,
    /// It has reported that its main process has ended or cannot run.
    reported_end: AtomicBool,
    closed: CancellationToken,
    /// Reader and writer, which hold the port.
    halves: Mutex<Vec<JoinHandle<()>>>,
}

/// The guest's answer to the hello.
#[derive(Debug)]
pub(crate) struct Welcome {
    pub(crate) phase: Phase,
}

impl Agent {
    /// Greets the guest and reads what it sends in tasks of `tasks`.
    ///
    /// [`AgentError::Version`] says that there can be no session, as long as the VM
    /// runs; after any other error another attempt may succeed.
    pub(crate) async fn connect(
        io: Box<dyn AgentIo>,
        session: u64,
        listen: Listen,
        deadline: Duration,
        tasks: &rt::Tasks,
    ) -> Result<(Arc<Self>, Welcome), AgentError> {
        let (mut reader, mut writer) = tokio::io::split(io);
        let greeting = greet(&mut reader, &mut writer, session, |m| reader::keep_log(m, &listen));
        let timeout = tokio::time::timeout(deadline, greeting).await;
        let Greeting { version, phase, listening, decoder, early } =
            timeout.map_err(|_| AgentError::Deadline(deadline))??;
        listening
            .into_iter()
            .for_each(|listener| claims::record_port(&listen.ports, listener, true));
        let (outgoing, frames) = outgoing::queue(version);
        let agent = Arc::new(Self {
            outgoing: outgoing.clone(),
            api: Api::new(listen.api.clone(), outgoing.clone(), tasks.clone()),
            execs: Arc::new(Execs::new(outgoing)),
            lists: Mutex::default(),
            next_list: AtomicU32::new(1),
            reported_running: AtomicBool::new(false),
            reported_end: AtomicBool::new(false),
            closed: CancellationToken::new(),
            halves: Mutex::default(),
        });
        let write = agent.closed.clone().run_until_cancelled_owned(frames.write_to(writer));
        let read = reader::run(agent.clone(), reader, decoder, early, listen);
        let read = agent.closed.clone().run_until_cancelled_owned(read);
        let halves = [
            tasks.spawn_until_stop(async { write.await.unwrap_or_default() }),
            tasks.spawn_until_stop(async { read.await.unwrap_or_default() }),
        ];
        lock(&agent.halves).extend(halves);
        Ok((agent, Welcome { phase: claims::phase(phase) }))
    }

    /// Sends a message to the guest. Waits while the guest does not read.
    pub(crate) async fn send(&self, message: &ToGuest) -> Result<(), AgentError> {
        self.outgoing.send(message).await
    }

    /// Prepares for the guest to be paused: commands end, answers of its API that are
    /// under way are finished, what was sent is written, and nothing more can be
    /// sent. What the guest sends is still read.
    pub(crate) async fn quiesce(&self) -> Result<(), AgentError> {
        self.execs.end("the machine is being suspended");
        self.api.finish(API_TIMEOUT).await;
        // Bytes that the guest has not read would be lost with its port.
        let finished = tokio::time::timeout(FLUSH_TIMEOUT, self.outgoing.finish()).await;
        finished.map_err(|_| AgentError::Deadline(FLUSH_TIMEOUT))?
    }

    /// Ends the session; returns once its port is closed, so that another one can
    /// begin.
    pub(crate) async fn close(&self) {
        self.closed.cancel();
        self.end("the session with the machine is restarted");
        let halves = std::mem::take(&mut *lock(&self.halves));
        for half in halves {
            // A task that has failed holds the port no more.
            let _ = half.await;
        }
    }

    fn end(&self, why: &str) {
        self.execs.end(why);
        self.api.close();
    }

    /// The processes of the guest.
    pub(crate) async fn processes(&self) -> Result<Vec<Process>, AgentError> {
        let number = self.next_list.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        {
            let mut lists = lock(&self.lists);
            // Callers that have left did not remove their entries.
            lists.retain(|_, waiting| !waiting.is_closed());
            lists.insert(number, answer);
        }
        let list = async {
            self.send(&ToGuest::ListProcesses(number)).await?;
            answered.await.map_err(|_| AgentError::Closed)
        };
        let outcome = tokio::time::timeout(LIST_TIMEOUT, list).await;
        lock(&self.lists).remove(&number);
        outcome.map_err(|_| AgentError::Deadline(LIST_TIMEOUT))?
    }

    /// Runs a command in the guest.
    pub(crate) fn exec(
        &self,
        exec: ExecStart,
        tasks: &rt::Tasks,
    ) -> (mpsc::Sender<ExecInput>, mpsc::Receiver<ExecOutput>) {
        self.execs.clone().start(exec, tasks)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
