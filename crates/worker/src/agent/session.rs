//! A session with a guest, and what follows from its messages.

use super::api::Api;
use super::claims;
use super::error::AgentError;
use super::exec::Execs;
use super::greet::{Greeting, greet};
use super::mutex::lock;
use super::outgoing::{self, Outgoing};
use super::reader::{self, Receiver};
use super::reports::{Listen, Report};
use crate::ports::AgentIo;
use guest_protocol::{GuestStats, Phase, ToGuest, ToHost, UnitId};
use host_api::{ExecInput, ExecOutput, ExecStart, GuestListener};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wire::machines::Process;

/// Time for a guest to list its processes.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// Before a suspend: time for answers of the API that are under way, and for the
/// guest to read what was sent.
const API_TIMEOUT: Duration = Duration::from_millis(200);
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A session with a guest. Ends when the VM does.
pub(crate) struct Agent {
    outgoing: Outgoing,
    execs: Arc<Execs>,
    api: Arc<Api>,
    lists: Mutex<HashMap<u32, oneshot::Sender<Vec<Process>>>>,
    next_list: AtomicU32,
    stats: Mutex<HashMap<u32, oneshot::Sender<GuestStats>>>,
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
    /// [`AgentError::Version`] means that there can be no session, as long as the VM
    /// runs; after any other error another attempt may succeed.
    pub(crate) async fn connect(
        io: Box<dyn AgentIo>,
        session: u64,
        listen: Listen,
        deadline: Duration,
        tasks: &rt::Tasks,
    ) -> Result<(Arc<Self>, Welcome), AgentError> {
        let (mut reader, mut writer) = tokio::io::split(io);
        let greeting = greet(&mut reader, &mut writer, session, |m| listen.keep_log(m));
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
            stats: Mutex::default(),
            reported_running: AtomicBool::new(false),
            reported_end: AtomicBool::new(false),
            closed: CancellationToken::new(),
            halves: Mutex::default(),
        });
        let write = agent.closed.clone().run_until_cancelled_owned(frames.write_to(writer));
        let read = reader::run(Incoming { agent: agent.clone(), listen }, reader, decoder, early);
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

    /// Counters of the guest's kernel. The caller bounds the time: an init of an earlier
    /// release does not answer.
    pub(crate) async fn stats(&self) -> Result<GuestStats, AgentError> {
        let number = self.next_list.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        {
            let mut stats = lock(&self.stats);
            // Callers that have left did not remove their entries.
            stats.retain(|_, waiting| !waiting.is_closed());
            stats.insert(number, answer);
        }
        self.send(&ToGuest::ReadStats(number)).await?;
        answered.await.map_err(|_| AgentError::Closed)
    }

    /// Runs a command in the guest, in one of its units if so given.
    pub(crate) fn exec(
        &self,
        exec: ExecStart,
        unit: Option<UnitId>,
        tasks: &rt::Tasks,
    ) -> (mpsc::Sender<ExecInput>, mpsc::Receiver<ExecOutput>) {
        self.execs.clone().start(exec, unit, tasks)
    }
}

/// The receiver of a session's messages.
struct Incoming {
    agent: Arc<Agent>,
    listen: Listen,
}

impl Receiver for Incoming {
    async fn handle(&self, message: ToHost) -> usize {
        self.agent.handle(message, &self.listen).await
    }

    async fn closed(&self) {
        self.agent.end("the machine has stopped");
        // The machine's task ends only when the host stops.
        let _ = self.listen.reports.send(Report::Lost).await;
    }
}

impl Agent {
    /// Acts on one message. Returns how many of its bytes were under credit.
    async fn handle(&self, message: ToHost, listen: &Listen) -> usize {
        match message {
            ToHost::Running { stages_ms, .. } => {
                let report = Report::Running { stages_ms: claims::stages(stages_ms) };
                self.report(report, listen).await;
            }
            ToHost::Exited(exit) => self.report(Report::Exited(exit), listen).await,
            ToHost::ConfigFailed(why) => {
                self.report(Report::ConfigFailed(claims::text(why)), listen).await;
            }
            ToHost::Listening(listener, began) => {
                claims::record_port(&listen.ports, listener, began);
            }
            ToHost::Log { source, offset, data, unit } => {
                let outgoing = self.outgoing.clone();
                // A guest that does not read sends it again in the next session.
                listen.store((source, unit), offset, &data, move |stored| {
                    outgoing.try_send(&ToGuest::LogReceived(source, stored, unit));
                });
            }
            ToHost::Unit(status) => {
                claims::record_unit(&listen.unit_states, listen.units.len(), status);
            }
            ToHost::LogDropped(bytes) => {
                listen.logs.guest_dropped(&listen.app, &listen.machine, bytes);
            }
            ToHost::Processes(number, list) => {
                let waiting = lock(&self.lists).remove(&number);
                if let Some(answer) = waiting {
                    // The caller may have left.
                    let _ = answer.send(claims::processes(list));
                }
            }
            ToHost::Stats(number, stats) => {
                let waiting = lock(&self.stats).remove(&number);
                if let Some(answer) = waiting {
                    // The caller may have left.
                    let _ = answer.send(*stats);
                }
            }
            ToHost::ExecOutput(id, stream, data) => {
                let bytes = data.len();
                return if self.execs.output(id, stream, data) { bytes } else { 0 };
            }
            ToHost::ExecCredit(id, bytes) => self.execs.credit(id, bytes),
            ToHost::ExecExited(id, exit) => self.execs.exited(id, exit),
            ToHost::ExecFailed(id, why, kind) => self.execs.failed(id, claims::text(why), kind),
            // An answer to a repeated hello.
            ToHost::Welcome { .. } | ToHost::Quiesced => {}
            ToHost::ApiOpen(id, tcp) => {
                self.api.open(id, if tcp { GuestListener::Tcp } else { GuestListener::Socket });
            }
            ToHost::ApiData(id, data) => self.api.data(id, data),
            ToHost::ApiEnd(id) => self.api.end(id),
        }
        0
    }

    async fn report(&self, report: Report, listen: &Listen) {
        let reported = match report {
            Report::Running { .. } => &self.reported_running,
            _ => &self.reported_end,
        };
        if !reported.swap(true, Ordering::Relaxed) {
            // The machine's task ends only when the host stops.
            let _ = listen.reports.send(report).await;
        }
    }
}
