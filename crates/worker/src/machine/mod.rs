//! One task owns one machine.
//!
//! The task takes requests and what the VM says, makes every change durable
//! before anybody is told, and after each asks [`step::next`] what to do. Slow
//! work (launch, clear) runs beside it; at most one of each machine at a time.

mod change;
mod ending;
mod launch;
mod orders;
mod requests;
mod resume;
mod snapshot;
mod starting;
mod step;
mod suspend;
pub(crate) mod view;

pub(crate) use change::new_event;
pub(crate) use requests::Request;

use crate::host::Shared;
use crate::ports::{Origin, SaveTimes, VmExit};
use crate::record::Record;
use change::EventIds;
use ending::End;
use futures_util::future::BoxFuture;
use launch::{Ending, LaunchError, Launched};
use model::id::BootId;
use model::id::EventId;
use model::life::State;
use resume::{ResumeError, Standing};
use snapshot::Note;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use step::{Asked, Have, Step, Vm};
use suspend::{SaveError, Saving};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use view::View;
use wire::worker::Source;

use crate::agent::{Agent, Ports, Report};

/// Requests that may wait for one machine; more are refused.
const INBOX: usize = 64;
/// Boots tried for one start.
const TRIES: u32 = 3;
/// Between two looks at a machine's ports.
const PORTS_EVERY: Duration = Duration::from_millis(5);

/// How others reach a machine's task.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) views: watch::Receiver<Arc<View>>,
}

impl Handle {
    pub(crate) fn view(&self) -> Arc<View> {
        self.views.borrow().clone()
    }
}

/// What was found of a machine's VM when the host began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing that can be used: whatever is left is removed.
    Remains,
    /// It runs and is to be taken over.
    Alive(BootId),
    /// It was written down and stands still.
    Saved,
    /// Nothing, and nothing was there.
    Nothing,
}

/// Starts the task of a machine.
pub(crate) fn start(host: &Arc<Shared>, view: View, found: Found) -> Handle {
    let (requests, inbox) = mpsc::channel(INBOX);
    let record = view.record.clone();
    let newest = view.events.front().and_then(|event| event.id.parse::<EventId>().ok());
    let earlier = [newest.map(EventId::parts), Some(record.instance.parts())].into_iter().flatten();
    let ids = EventIds::new(host.clock.clone(), host.rng.clone(), earlier);
    let (views, watched) = watch::channel(Arc::new(view));
    let snapshot_left = host.has_snapshot_files(record.id);
    let mut task = Task {
        ids,
        host: host.clone(),
        record,
        views,
        vm: Now::Absent,
        effects: JoinSet::new(),
        tries: 0,
        failure: None,
        unresumable: None,
        timer: None,
        stages: Vec::new(),
        origin: Origin::Found,
        suspend_for: Source::User,
        snapshot_left,
        vm_exit: VmExit::default(),
        host_was_away: found != Found::Nothing,
        labels: None,
        ports_at: Instant::now(),
    };
    task.publish();
    task.begin(found);
    host.tasks.spawn(task.run(inbox));
    Handle { requests, views: watched }
}

/// A destroyed machine of an earlier daemon: it can be asked for, nothing more.
pub(crate) fn remembered(view: View) -> Handle {
    // Without a task both channels are closed; what the view shows stays.
    let (requests, _) = mpsc::channel(1);
    let (_, views) = watch::channel(Arc::new(view));
    Handle { requests, views }
}

/// What is there of the VM, with what belongs to it.
enum Now {
    Absent,
    /// With the note of the snapshot that it is to go on from.
    Chosen(Option<Note>),
    Launching(CancellationToken),
    Up(Box<UpVm>),
    Saving(Box<Saving>),
    /// With its session, if there was one; it has nothing more to say.
    Saved(Option<Arc<Agent>>),
    Remains(Ending),
    Clearing,
}

struct UpVm {
    agent: Arc<Agent>,
    reports: mpsc::Receiver<Report>,
    ports: watch::Receiver<Ports>,
    exited: BoxFuture<'static, VmExit>,
    running: bool,
    asked: Asked,
    /// It waits for the edge before it is asked, or written down.
    draining: bool,
}

/// What slow work ends with.
enum Done {
    Launched(Result<Launched, LaunchError>),
    Standing(Result<Standing, ResumeError>),
    Saved(Result<SaveTimes, SaveError>),
    Cleared(VmExit),
    Said,
}

struct Task {
    host: Arc<Shared>,
    record: Record,
    views: watch::Sender<Arc<View>>,
    vm: Now,
    effects: JoinSet<Done>,
    ids: EventIds,
    /// Boots tried for the start that is under way.
    tries: u32,
    /// The start that is under way cannot succeed, for this reason.
    failure: Option<String>,
    /// The machine cannot go on from its snapshot, for this reason.
    unresumable: Option<String>,
    /// When the state at hand has lasted too long, or a pause is over.
    timer: Option<Instant>,
    /// Milliseconds by stage of the launch or suspend that is under way.
    stages: Vec<(String, f64)>,
    /// How the VM of the launch that is under way came to life.
    origin: Origin,
    /// Who has asked for the suspend that is under way.
    suspend_for: Source,
    /// Files of a snapshot may be there.
    snapshot_left: bool,
    /// How the VM that was removed last had ended.
    vm_exit: VmExit,
    /// Whatever its VM came to, no daemon was there to see it.
    host_was_away: bool,
    /// Labels of the image that the launch under way has looked at.
    labels: Option<BTreeMap<String, String>>,
    /// Not before then its ports are looked at again.
    ports_at: Instant,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let stopping = self.host.tasks.stopping();
        tokio::pin!(stopping);
        while self.advance().await && self.record.state != State::Destroyed {
            let timer = self.timer;
            tokio::select! {
                biased;
                // The VM's own word beats ours: an exit makes requests moot.
                word = next_word(&mut self.vm, self.ports_at) => self.on_word(word).await,
                Some(done) = self.effects.join_next() => match done {
                    Ok(done) => self.on_done(done).await,
                    Err(err) => self.on_broken_effect(&err),
                },
                Some(request) = inbox.recv() => self.on_request(request).await,
                () = sleep_until(timer) => self.on_timer(),
                // Last: what was asked before the stop is recorded first. VMs
                // outlive the daemon, so nothing is taken down here.
                () = &mut stopping => return,
            }
        }
        if self.record.state == State::Destroyed {
            self.host.bury(self.record.id).await;
        }
    }

    fn begin(&mut self, found: Found) {
        match found {
            Found::Nothing => self.vm = Now::Absent,
            Found::Remains => self.vm = Now::Remains(Ending::unknown()),
            Found::Saved => self.vm = Now::Saved(None),
            Found::Alive(boot) => {
                let adopt = launch::adopt(self.host.clone(), self.record.clone(), boot);
                self.effects.spawn(async move { Done::Launched(adopt.await) });
                // It is not cancelled: a VM that is to stop is asked to, not killed.
                self.vm = Now::Launching(CancellationToken::new());
            }
        }
        self.set_restart_timer();
    }

    /// Does what is to be done next until there is nothing. False if the host
    /// is stopping.
    async fn advance(&mut self) -> bool {
        loop {
            match step::next(self.record.state, self.record.want, self.have(&self.record)) {
                Step::Rest => return true,
                Step::DropSnapshot => self.drop_stray_snapshot().await,
                Step::Launch => self.begin_launch().await,
                Step::CancelLaunch => {
                    if let Now::Launching(cancel) = &self.vm {
                        cancel.cancel();
                    }
                    return true;
                }
                Step::AskToStop => self.begin_stop(),
                Step::Suspend => self.begin_suspend(),
                Step::CancelSuspend => {
                    if let Now::Saving(saving) = &self.vm {
                        saving.cancel.cancel();
                    }
                    return true;
                }
                Step::GoOn => {
                    let saved = std::mem::replace(&mut self.vm, Now::Absent);
                    self.go_on(if let Now::Saved(agent) = saved { agent } else { None });
                }
                Step::RecordContinued => self.record_continued().await,
                Step::Clear => self.begin_clear(),
                Step::RecordDown => self.record_down().await,
                Step::RecordGone => self.record_gone().await,
            }
            if self.host.tasks.is_stopping() {
                return false;
            }
        }
    }

    /// What is there of the machine, with `record` as its record.
    fn have(&self, record: &Record) -> Have {
        let vm = match &self.vm {
            Now::Absent => Vm::Absent,
            Now::Chosen(_) => Vm::Chosen,
            Now::Launching(_) => Vm::Launching,
            Now::Up(up) => Vm::Up { running: up.running, asked: up.asked },
            Now::Saving(saving) => Vm::Saving { cancelled: saving.cancel.is_cancelled() },
            Now::Saved(_) => Vm::Saved,
            Now::Remains(_) => Vm::Remains,
            Now::Clearing => Vm::Clearing,
        };
        let due = record.restart_at.is_none_or(|at| at <= self.host.clock.now_ms());
        // A VM that was resumed maps its snapshot's memory, and writes back into it
        // when it is suspended again.
        let began_anew = matches!(self.origin, Origin::Template | Origin::Cold(_));
        let unused = match self.vm {
            Now::Absent => true,
            Now::Up(_) => began_anew,
            _ => false,
        };
        let stray = self.snapshot_left && record.snapshot.is_none() && unused;
        Have { vm, due, booted: record.boot.is_some(), stray }
    }

    fn is_last_try(&self) -> bool {
        self.tries >= TRIES
    }

    fn set_restart_timer(&mut self) {
        if let Some(at) = self.record.restart_at {
            let pause = Duration::from_millis(at.saturating_sub(self.host.clock.now_ms()));
            // A clock that was set back must not make it longer than it ever is.
            let pause = pause.min(model::restart::LONGEST_PAUSE);
            self.timer = Some(Instant::now() + pause);
        }
    }

    async fn on_done(&mut self, done: Done) {
        match done {
            Done::Said => {}
            Done::Launched(Ok(launched)) => self.on_launched(launched).await,
            Done::Launched(Err(err)) => self.on_launch_failed(err),
            Done::Standing(standing) => self.on_standing(standing).await,
            Done::Saved(saved) => self.on_saved(saved).await,
            Done::Cleared(exit) => {
                self.vm_exit = exit;
                self.vm = Now::Absent;
                self.host.logs.settle(&self.record.id.to_string());
                self.show(|view| {
                    view.agent = None;
                    view.listening.clear();
                });
            }
        }
    }

    /// Slow work panicked: a defect. What it has made is removed.
    fn on_broken_effect(&mut self, err: &tokio::task::JoinError) {
        tracing::error!(machine = %self.record.id, error = %err, "machine work broke");
        self.failure = Some("the host failed at it; see its log".into());
        self.vm = Now::Remains(Ending::unknown());
    }

    async fn on_word(&mut self, word: Word) {
        match word {
            Word::Report(report) => self.on_report(report).await,
            Word::Ports(ports) => {
                self.ports_at = Instant::now() + PORTS_EVERY;
                self.show(|view| view.listening = ports);
            }
        }
    }

    async fn on_report(&mut self, report: Report) {
        if let Now::Saving(saving) = &mut self.vm {
            return match report {
                Report::Exited(exit) => {
                    // Not worth keeping; it is taken over once more to be ended.
                    saving.cancel.cancel();
                    let record = Record { exit: Some(exit), ..self.record.clone() };
                    self.commit(record, Vec::new()).await;
                }
                Report::Lost => saving.over = true,
                Report::Running { .. } | Report::ConfigFailed(_) => {}
            };
        }
        match report {
            Report::Running { stages_ms } => self.on_running(stages_ms).await,
            Report::ConfigFailed(why) => {
                self.failure = Some(why);
                self.end_vm(End::Useless);
            }
            Report::Exited(exit) => {
                let mut record = self.record.clone();
                record.exit = Some(exit);
                self.commit(record, Vec::new()).await;
                self.end_vm(End::Exited);
            }
            Report::Lost => self.end_vm(End::Lost),
        }
    }
}

async fn sleep_until(timer: Option<Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Something the VM says.
enum Word {
    Report(Report),
    Ports(Ports),
}

/// The next thing the VM says; its end counts as [`Report::Lost`]. Its ports
/// are looked at not before `ports_at`: a guest may open and close them as fast
/// as it likes.
async fn next_word(vm: &mut Now, ports_at: Instant) -> Word {
    let up = match vm {
        Now::Up(up) => &mut **up,
        Now::Saving(saving) if !saving.over => &mut saving.up,
        _ => return std::future::pending().await,
    };
    let ports_changed = async {
        tokio::time::sleep_until(ports_at).await;
        // Closed with the session; that is a report.
        match up.ports.changed().await {
            Ok(()) => up.ports.borrow_and_update().clone(),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        report = up.reports.recv() => Word::Report(report.unwrap_or(Report::Lost)),
        exit = &mut up.exited => {
            // It is asked for again when the remains are cleared.
            up.exited = Box::pin(std::future::ready(exit));
            Word::Report(Report::Lost)
        }
        ports = ports_changed => Word::Ports(ports),
    }
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, wire::worker::HostError>>;
