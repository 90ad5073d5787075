//! What the host asks for, and what helping threads tell.

use crate::herald::News;
use crate::hook::Hook;
use crate::looper::{LOG_BUFFER, LOOK_EVERY, Looper};
use crate::main_process::MainProcess;
use crate::prepare::{Job, Prepared};
use crate::trace::ListenEvents;
use crate::{clock, ps};
use guest_protocol::{LogSource, Orders, Phase, Resume, ToGuest, ToHost, VERSION};
use std::time::{Duration, Instant};

/// How long the last words may take to leave before power goes off.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What must have come to rest before a template is frozen.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    asked: bool,
    ready: bool,
    watching: bool,
}

impl Looper {
    /// Does what a message of the host says.
    pub(crate) fn obey(&mut self, message: ToGuest) {
        if self.yields && !matches!(message, ToGuest::Hello { .. }) {
            self.yields = false;
            set_nice(0);
        }
        match message {
            ToGuest::Hello { session, .. } => self.welcome(session),
            ToGuest::Settle => self.settle(),
            ToGuest::Orders(orders) => self.take_orders(orders),
            ToGuest::Resumed(resume) => self.resume(&resume),
            ToGuest::Signal(signal) => {
                if let Some(main) = &mut self.main {
                    main.signal(signal);
                }
            }
            ToGuest::Stop { signal, timeout_ms } => {
                let timeout = Duration::from_millis(timeout_ms);
                match (&mut self.main, &self.phase) {
                    (Some(main), _) => main.stop(signal, timeout),
                    (None, Phase::Preparing) => self.early_stop = Some((signal, timeout)),
                    _ => {}
                }
            }
            ToGuest::PowerOff => {
                self.power_off_at.get_or_insert(Instant::now() + LAST_WORDS);
            }
            ToGuest::Exec(id, exec) => {
                let started = match self.phase {
                    Phase::Running(_) => self.execs.start(id, &exec, &self.spec),
                    _ => Err("the main process does not run".to_owned()),
                };
                if let Err(error) = started {
                    self.outbox.control(ToHost::ExecFailed(id, error));
                }
            }
            ToGuest::ExecInput(id, bytes) => self.execs.input(id, &bytes, &mut self.outbox),
            ToGuest::ExecCredit(id, bytes) => self.execs.credit(id, bytes),
            ToGuest::ExecResize(id, size) => self.execs.resize(id, size),
            ToGuest::ExecSignal(id, signal) => self.execs.signal(id, signal),
            ToGuest::ListProcesses(number) => self.list_processes(number),
            ToGuest::Awake(now) => self.awake(now),
            ToGuest::ApiData(id, bytes) => self.api.data(id, &bytes, &mut self.outbox),
            ToGuest::ApiEnd(id) => self.api.end(id),
        }
    }

    fn welcome(&mut self, session: u64) {
        self.execs.forget();
        self.api.forget();
        self.port.greeted();
        self.outbox.open_session(ToHost::Welcome {
            version: VERSION,
            session,
            phase: self.phase.clone(),
            listening: self.listeners.all(),
        });
    }

    /// Only a guest without orders is anybody's.
    fn settle(&mut self) {
        if self.phase == Phase::AwaitsOrders {
            self.settling.asked = true;
            self.settling.ready = false;
            let _ = self.jobs.send(Job::Settle);
        }
    }

    fn tell_settled(&mut self) {
        let Settling { asked, ready, watching } = self.settling;
        if asked && ready && watching {
            self.settling.asked = false;
            self.outbox.control(ToHost::Settled);
        }
    }

    fn take_orders(&mut self, orders: Box<Orders>) {
        if self.phase != Phase::AwaitsOrders {
            return;
        }
        self.phase = Phase::Preparing;
        self.outbox.logs.set_limit((orders.log_buffer as usize).max(LOG_BUFFER / 16));
        let version = option_env!("UPDRAFT_COMMIT").unwrap_or(env!("CARGO_PKG_VERSION"));
        self.log(&format!("Starting init (commit: {version})..."));
        self.spec = orders.main.clone();
        self.listeners.begin(orders.net.as_ref().map(|net| net.ipv4));
        if self.jobs.send(Job::Orders(orders)).is_err() {
            self.fail("there is no thread to prepare the guest".to_owned());
        }
    }

    /// The guest was suspended and goes on, maybe much later and elsewhere.
    fn resume(&mut self, resume: &Resume) {
        self.set_clock(resume.now);
        if let Err(err) = clock::add_entropy(&resume.entropy) {
            self.log(&format!("cannot add entropy: {err}"));
        }
        self.log("Resumed after being suspended");
        if resume.hook.is_empty() || self.main.is_none() {
            return;
        }
        if let Some(earlier) = self.hook.take() {
            earlier.kill();
        }
        match Hook::start(&resume.hook, &self.spec) {
            Ok(hook) => self.hook = Some(hook),
            Err(error) => self.log(&error),
        }
    }

    /// The guest goes on, and somebody may wait for the app's answer: the clock is
    /// right before that, everything else comes behind it.
    fn awake(&mut self, now: i64) {
        self.set_clock(now);
        self.yields = self.main.is_some();
        if self.yields {
            set_nice(19);
        }
    }

    fn set_clock(&mut self, now: i64) {
        if let Err(err) = clock::set(now) {
            self.log(&format!("cannot set the clock: {err}"));
        }
    }

    fn list_processes(&mut self, number: u32) {
        // One at a time: /proc of a hostile app is slow to read.
        let work = move |herald: crate::herald::Herald| {
            herald.tell(News::Processes(number, ps::list()));
        };
        if self.listing || self.herald.help("ps", work).is_err() {
            self.outbox.control(ToHost::Processes(number, Vec::new()));
        } else {
            self.listing = true;
        }
    }

    /// Has changes of listeners announced.
    pub(crate) fn watch_listeners(&mut self) {
        let _ = self.herald.help("listen", |herald| {
            let watched = ListenEvents::enable().and_then(|events| {
                herald.tell(News::ListenersWatched);
                events.watch(|| {
                    herald.tell(News::ListenersChanged);
                    true
                })
            });
            if let Err(err) = watched {
                herald.tell(News::ListenersUnannounced(err));
            }
        });
    }

    /// Takes what the helping threads tell.
    pub(crate) fn hear_news(&mut self) {
        self.herald.heard();
        while let Ok(news) = self.news.try_recv() {
            match news {
                News::Log(line) => self.log(&line),
                News::Settled => self.settling.ready = true,
                News::Prepared(Ok(prepared)) => self.run_main(prepared),
                News::Prepared(Err(error)) => self.fail(error),
                News::Processes(number, list) => {
                    self.listing = false;
                    self.outbox.control(ToHost::Processes(number, list));
                }
                News::ListenersWatched => {
                    self.settling.watching = true;
                    self.listeners.announced();
                }
                News::ListenersChanged => self.listeners.announced(),
                News::ListenersUnannounced(err) => {
                    self.settling.watching = true;
                    self.log(&format!("listeners are polled, not announced: {err}"));
                    self.listeners.poll_every(LOOK_EVERY);
                }
            }
        }
        self.tell_settled();
    }

    fn run_main(&mut self, prepared: Prepared) {
        let Prepared { scratch, mut stages, virtio } = prepared;
        self.scratch = Some(scratch);
        let logs = &mut self.outbox.logs;
        let mut log = |line: String| logs.push(LogSource::Init, format!("{line}\n").as_bytes());
        match MainProcess::start(&mut self.spec, self.oom_kills, &mut log) {
            Ok(mut main) => {
                stages.mark("exec");
                self.phase = Phase::Running(main.pid());
                let running = ToHost::Running { pid: main.pid(), stages_ms: stages.stamps() };
                self.outbox.control(running);
                if let Some((signal, timeout)) = self.early_stop.take() {
                    main.stop(signal, timeout);
                }
                self.main = Some(main);
            }
            Err(error) => self.fail(error),
        }
        let _ = self.jobs.send(Job::Rest(virtio));
    }
}

/// Priority of the loop's thread; children are started at 0 alone.
fn set_nice(nice: i32) {
    // SAFETY: plain system call; 0 means the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}
