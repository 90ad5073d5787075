//! The host's side of the guest protocol: one session with one guest.
//!
//! The reader never waits for a client: output of execs goes into buffers that
//! credit bounds, reports go to the machine's task, logs are dropped rather
//! than waited for. Everything a guest sends is hostile.

mod api;
mod exec;
mod greet;
mod outgoing;
#[cfg(test)]
mod tests;

pub(crate) use api::ApiFor;
pub(crate) use greet::settle;

use crate::logs::{LogStore, LogStream};
use crate::ports::AgentIo;
use api::Api;
use exec::Execs;
use greet::{Greeting, Reader, greet};
use guest_protocol::codec::Decoder;
use guest_protocol::{Exit, Listener, LogSource, Phase, ToGuest, ToHost, VERSION};
use outgoing::Outgoing;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wire::machines::{ListenSocket, Process};
use wire::worker::{ExecInput, ExecOutput, ExecStart};

const LIST_DEADLINE: Duration = Duration::from_secs(10);
/// Before a suspend: for answers that are under way, and for the guest to read
/// what was said.
const LAST_ANSWERS: Duration = Duration::from_millis(200);
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Processes in one list and ports that listen; a guest may lie about both.
const MOST_PROCESSES: usize = 4096;
const MOST_PORTS: usize = 1024;

/// What a guest says about its main process; each at most once a session, so
/// that no guest can keep its machine's task from everything else.
#[derive(Debug)]
pub(crate) enum Report {
    Running {
        stages_ms: Vec<(String, f64)>,
    },
    Exited(Exit),
    OrdersFailed(String),
    /// The port is closed: the VM has ended or broke the protocol.
    Lost,
}

/// Ports that listen and can be reached from the host.
pub(crate) type Ports = BTreeSet<u16>;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error("guest did not answer within {0:?}")]
    Deadline(Duration),
    #[error("guest speaks protocol {0}, this host {VERSION}")]
    Version(u16),
    #[error("agent port failed")]
    Io(#[source] std::io::Error),
    #[error("guest closed its agent port")]
    Closed,
    #[error("guest has its orders already")]
    NotFresh,
}

/// Whose guest it is and where its words go.
#[derive(Clone)]
pub(crate) struct Listen {
    pub(crate) app: String,
    pub(crate) machine: String,
    pub(crate) logs: Arc<LogStore>,
    pub(crate) reports: mpsc::Sender<Report>,
    /// Only the newest state counts, however often it changes.
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
    /// It has said that its main process runs; that it has ended or cannot run.
    said: [AtomicBool; 2],
    closed: CancellationToken,
    /// Reader and writer, which hold the port.
    halves: Mutex<Vec<JoinHandle<()>>>,
}

/// What the guest answered to the greeting.
#[derive(Debug)]
pub(crate) struct Welcome {
    pub(crate) phase: Phase,
}

impl Agent {
    /// Greets the guest and goes on listening to it in tasks of `tasks`.
    pub(crate) async fn connect(
        io: Box<dyn AgentIo>,
        session: u64,
        listen: Listen,
        deadline: Duration,
        tasks: &rt::Tasks,
    ) -> Result<(Arc<Self>, Welcome), AgentError> {
        let (mut reader, mut writer) = tokio::io::split(io);
        let greeted = greet(&mut reader, &mut writer, session, |m| keep_log(m, &listen));
        let timeout = tokio::time::timeout(deadline, greeted).await;
        let Greeting { phase, listening, decoder, early } =
            timeout.map_err(|_| AgentError::Deadline(deadline))??;
        listening.into_iter().for_each(|listener| note_port(&listen.ports, listener, true));
        let (outgoing, frames) = outgoing::queue();
        let agent = Arc::new(Self {
            outgoing: outgoing.clone(),
            api: Api::new(listen.api.clone(), outgoing.clone(), tasks.clone()),
            execs: Arc::new(Execs::new(outgoing)),
            lists: Mutex::default(),
            next_list: AtomicU32::new(1),
            said: Default::default(),
            closed: CancellationToken::new(),
            halves: Mutex::default(),
        });
        let write = agent.closed.clone().run_until_cancelled_owned(frames.write_to(writer));
        let read = read_frames(agent.clone(), reader, decoder, early, listen);
        let read = agent.closed.clone().run_until_cancelled_owned(read);
        let halves = [
            tasks.spawn_until_stop(async { write.await.unwrap_or_default() }),
            tasks.spawn_until_stop(async { read.await.unwrap_or_default() }),
        ];
        lock(&agent.halves).extend(halves);
        Ok((agent, Welcome { phase: short_phase(phase) }))
    }

    /// Says something to the guest. Waits while the guest does not read.
    pub(crate) async fn say(&self, message: &ToGuest) -> Result<(), AgentError> {
        self.outgoing.say(message).await
    }

    /// Gets ready for the guest to stand still: commands end, answers of its API that
    /// are under way are finished, what was said is written, and nothing more can
    /// be said. What the guest says is read on.
    pub(crate) async fn hush(&self) -> Result<(), AgentError> {
        self.execs.end("the machine is being suspended");
        self.api.finish(LAST_ANSWERS).await;
        // Bytes that a guest reads halfway would be lost with its port.
        let finished = tokio::time::timeout(LAST_WORDS, self.outgoing.finish()).await;
        finished.map_err(|_| AgentError::Deadline(LAST_WORDS))?
    }

    /// Ends the session; returns once its port is closed, so that another can
    /// begin.
    pub(crate) async fn close(&self) {
        self.closed.cancel();
        self.end("the session with the machine is begun anew");
        let halves = std::mem::take(&mut *lock(&self.halves));
        for half in halves {
            // One that broke holds nothing either.
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
            // Callers that went away have left their entries behind.
            lists.retain(|_, waiting| !waiting.is_closed());
            lists.insert(number, answer);
        }
        let list = async {
            self.say(&ToGuest::ListProcesses(number)).await?;
            answered.await.map_err(|_| AgentError::Closed)
        };
        let outcome = tokio::time::timeout(LIST_DEADLINE, list).await;
        lock(&self.lists).remove(&number);
        outcome.map_err(|_| AgentError::Deadline(LIST_DEADLINE))?
    }

    /// Runs a command in the guest.
    pub(crate) fn exec(
        &self,
        exec: ExecStart,
        tasks: &rt::Tasks,
    ) -> (mpsc::Sender<ExecInput>, mpsc::Receiver<ExecOutput>) {
        self.execs.clone().start(exec, tasks)
    }

    async fn handle(&self, message: ToHost, listen: &Listen) {
        let Listen { app, machine, logs, reports, ports, .. } = listen;
        let report = match message {
            ToHost::Running { stages_ms, .. } => Report::Running { stages_ms: sane(stages_ms) },
            ToHost::Exited(exit) => Report::Exited(exit),
            ToHost::OrdersFailed(why) => Report::OrdersFailed(short(why)),
            ToHost::Listening(listener, begun) => return note_port(ports, listener, begun),
            ToHost::Log(source, bytes) => return logs.bytes(app, machine, voice(source), &bytes),
            ToHost::LogDropped(bytes) => return logs.guest_dropped(app, machine, bytes),
            ToHost::Processes(number, mut list) => {
                list.truncate(MOST_PROCESSES);
                let asked = lock(&self.lists).remove(&number);
                if let Some(answer) = asked {
                    // Who asked may have gone.
                    let _ = answer.send(list.into_iter().map(process).collect());
                }
                return;
            }
            ToHost::ExecOutput(id, stream, bytes) => return self.execs.output(id, stream, bytes),
            ToHost::ExecCredit(id, bytes) => return self.execs.credit(id, bytes),
            ToHost::ExecExited(id, exit) => return self.execs.exited(id, exit),
            ToHost::ExecFailed(id, why) => return self.execs.failed(id, short(why)),
            // A welcome nobody waits for: an answer to a repeated greeting.
            ToHost::Welcome { .. } | ToHost::Settled => return,
            ToHost::ApiOpen(id) => return self.api.open(id),
            ToHost::ApiData(id, bytes) => return self.api.data(id, bytes),
            ToHost::ApiEnd(id) => return self.api.end(id),
        };
        let end = usize::from(!matches!(report, Report::Running { .. }));
        if !self.said[end].swap(true, Ordering::Relaxed) {
            // The machine's task is gone only when the host stops.
            let _ = reports.send(report).await;
        }
    }
}

fn note_port(ports: &watch::Sender<Ports>, listener: Listener, begun: bool) {
    ports.send_if_modified(|ports| match begun && listener.reachable {
        true => ports.len() < MOST_PORTS && ports.insert(listener.port),
        false => !begun && listener.reachable && ports.remove(&listener.port),
    });
}

/// Stages that a guest may tell of: their names become labels of metrics.
const STAGES: [&str; 16] = [
    "modules", "port", "drivers", "ready", "orders", "identity", "disks", "layers", "root",
    "files", "nic", "network", "swap", "user", "mounts", "exec",
];
/// No stage of a start is longer; what JSON cannot write is not shorter either.
const LONGEST_STAGE_MS: f64 = 3_600_000.0;

/// What is believable of a guest's stages.
fn sane(mut stages: Vec<(String, f64)>) -> Vec<(String, f64)> {
    stages.truncate(STAGES.len());
    let known = |name: &str| STAGES.contains(&name);
    stages.retain(|(name, ms)| known(name) && (0.0..LONGEST_STAGE_MS).contains(ms));
    stages
}

/// Words of a guest are shown, so they are kept short.
fn short(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(2000));
    text
}

fn short_phase(phase: Phase) -> Phase {
    match phase {
        Phase::Failed(why) => Phase::Failed(short(why)),
        other => other,
    }
}

fn voice(source: LogSource) -> LogStream {
    match source {
        LogSource::Stdout => LogStream::Stdout,
        LogSource::Stderr => LogStream::Stderr,
        LogSource::Init => LogStream::Init,
    }
}

/// Frames of before the welcome belong to no session, but log lines among them
/// are whole and say what happened while nobody listened.
fn keep_log(message: ToHost, listen: &Listen) {
    let Listen { app, machine, logs, .. } = listen;
    match message {
        ToHost::Log(source, bytes) => logs.bytes(app, machine, voice(source), &bytes),
        ToHost::LogDropped(bytes) => logs.guest_dropped(app, machine, bytes),
        _ => {}
    }
}

async fn read_frames(
    agent: Arc<Agent>,
    mut reader: Reader,
    mut decoder: Decoder,
    early: Vec<ToHost>,
    listen: Listen,
) {
    for message in early {
        agent.handle(message, &listen).await;
    }
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = reader.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        let mut messages = Vec::new();
        decoder.feed(&buffer[..read], |message: ToHost| messages.push(message));
        for message in messages {
            agent.handle(message, &listen).await;
        }
    }
    agent.end("the machine has stopped");
    // The machine's task is gone only when the host stops.
    let _ = listen.reports.send(Report::Lost).await;
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process as the API shows it.
fn process(found: guest_protocol::Process) -> Process {
    let sockets = found.listen_sockets.into_iter();
    Process {
        pid: found.pid,
        stime: found.stime,
        rtime: found.rtime,
        command: found.command,
        directory: found.directory,
        cpu: found.cpu,
        rss: found.rss,
        listen_sockets: sockets
            .map(|socket| ListenSocket { proto: socket.proto, address: socket.address })
            .collect(),
    }
}
