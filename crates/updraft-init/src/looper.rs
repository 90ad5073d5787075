//! The loop: one thread that owns all state, and one poll for all that happens.

use crate::api::Api;
use crate::boot::Booted;
use crate::exec::{Execs, Stream};
use crate::herald::{Herald, News};
use crate::hook::Hook;
use crate::listen::Listeners;
use crate::main_process::{self, MainProcess};
use crate::obey::Settling;
use crate::outbox::Outbox;
use crate::port::Port;
use crate::prepare::{self, Job};
use crate::{boot, power, signals};
use guest_protocol::{ApiId, ExecId, Listener, LogSource, MAX_CHUNK, Main, Phase, ToHost};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// Bytes of log held before the orders say how many.
pub(crate) const LOG_BUFFER: usize = 64 * 1024;
/// Interval of looking for listeners where the kernel does not announce them.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Something to be done.
enum Ready {
    Port,
    Children,
    Bell,
    Main(Stream),
    Exec(ExecId, Stream),
    Hook,
    ApiListener,
    Api(ApiId),
}

/// Everything init knows.
pub(crate) struct Looper {
    pub(crate) port: Port,
    pub(crate) outbox: Outbox,
    pub(crate) phase: Phase,
    children: OwnedFd,
    pub(crate) herald: Herald,
    pub(crate) news: Receiver<News>,
    /// To the thread that prepares.
    pub(crate) jobs: Sender<Job>,
    pub(crate) settling: Settling,
    pub(crate) spec: Main,
    pub(crate) main: Option<MainProcess>,
    /// A stop that came before there was anything to stop.
    pub(crate) early_stop: Option<(i32, Duration)>,
    /// Processes killed for want of memory before there was an app.
    pub(crate) oom_kills: u64,
    pub(crate) execs: Execs,
    pub(crate) hook: Option<Hook>,
    /// The app goes first: somebody may wait for its answer since it went on.
    pub(crate) yields: bool,
    pub(crate) api: Api,
    pub(crate) listeners: Listeners,
    pub(crate) listing: bool,
    pub(crate) scratch: Option<OwnedFd>,
    pub(crate) power_off_at: Option<Instant>,
    buffer: Vec<u8>,
}

impl Looper {
    /// Takes over from boot.
    pub(crate) fn new(booted: Booted) -> Self {
        let Booted { port, api, means } = booted;
        let (Ok((herald, news)), Ok(children)) = (Herald::new(), signals::child_events()) else {
            boot::kernel_message("cannot make an event descriptor");
            power::off(None)
        };
        let (jobs, todo) = mpsc::channel();
        // Without it the orders fail, and say so.
        let _ = herald.help("prepare", move |herald| prepare::serve(means, &todo, &herald));
        Self {
            port,
            outbox: Outbox::new(LOG_BUFFER),
            phase: Phase::AwaitsOrders,
            children,
            herald,
            news,
            jobs,
            settling: Settling::default(),
            spec: Main::default(),
            main: None,
            early_stop: None,
            oom_kills: main_process::oom_kills(),
            execs: Execs::default(),
            hook: None,
            yields: false,
            api,
            listeners: Listeners::default(),
            listing: false,
            scratch: None,
            power_off_at: None,
            buffer: vec![0; MAX_CHUNK],
        }
    }

    /// Runs until power goes off.
    pub(crate) fn run(mut self) -> ! {
        self.watch_listeners();
        loop {
            self.hear();
            self.tick();
            let (port, outbox) = (&mut self.port, &mut self.outbox);
            outbox.flush(|bytes| port.write(bytes));
            let said = self.outbox.is_empty();
            if self.power_off_at.is_some_and(|at| said || at <= Instant::now()) {
                power::off(self.scratch.as_ref());
            }
            for ready in self.wait() {
                self.serve(ready);
            }
        }
    }

    /// Waits until something can be done or is due.
    fn wait(&self) -> Vec<Ready> {
        let mut tags = vec![Ready::Port, Ready::Bell, Ready::Children];
        let mut polls = vec![
            PollFd::from_borrowed_fd(self.port.edges(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.herald.bell(), PollFlags::IN),
            PollFd::new(&self.children, PollFlags::IN),
        ];
        for (which, fd) in self.main.iter().flat_map(MainProcess::streams) {
            tags.push(Ready::Main(which));
            polls.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        for (id, which, fd) in self.execs.streams(self.outbox.bulk_is_full()) {
            let flags = if which == Stream::In { PollFlags::OUT } else { PollFlags::IN };
            tags.push(Ready::Exec(id, which));
            polls.push(PollFd::from_borrowed_fd(fd, flags));
        }
        for fd in self.hook.iter().flat_map(Hook::outputs) {
            tags.push(Ready::Hook);
            polls.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        if let Some(fd) = self.api.listener(&self.outbox) {
            tags.push(Ready::ApiListener);
            polls.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        for (id, fd, flags) in self.api.clients() {
            tags.push(Ready::Api(id));
            polls.push(PollFd::from_borrowed_fd(fd, flags));
        }
        let left = self.next_tick().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = left.map(timespec);
        let _ = rustix::event::poll(&mut polls, timeout.as_ref());
        let ready = polls.iter().map(|p| !p.revents().is_empty());
        tags.into_iter().zip(ready).filter_map(|(tag, ready)| ready.then_some(tag)).collect()
    }

    fn next_tick(&self) -> Option<Instant> {
        let main = self.main.as_ref().and_then(MainProcess::next_tick);
        // A host that does not read must not make init hold ever more changes.
        let crowded = self.outbox.is_crowded();
        let look = self.listeners.next_look().filter(|_| !crowded);
        // Room for answers has come back since the host was last heard.
        let hear = (!crowded && self.port.may_read()).then(Instant::now);
        let speak = self.port.quiet_until();
        let hook = self.hook.as_ref().map(Hook::next_tick);
        let all = [main, self.execs.next_tick(), hook, look, hear, speak, self.power_off_at];
        all.into_iter().flatten().min()
    }

    fn serve(&mut self, ready: Ready) {
        match ready {
            Ready::Port => self.port.take_edge(),
            Ready::Children => self.reap(),
            Ready::Bell => self.hear_news(),
            Ready::Main(which) => {
                if let Some(main) = &mut self.main {
                    main.read(which, &mut self.buffer, &mut self.outbox);
                }
            }
            Ready::Exec(id, which) => {
                self.execs.ready(id, which, &mut self.buffer, &mut self.outbox);
            }
            Ready::Hook => {
                if let Some(hook) = &mut self.hook {
                    hook.read(&mut self.buffer, &mut self.outbox.logs);
                }
            }
            Ready::ApiListener => self.api.accept(&mut self.outbox),
            Ready::Api(id) => self.api.serve(id, &mut self.buffer, &mut self.outbox),
        }
    }

    /// Takes what the host says, as long as answers have room.
    fn hear(&mut self) {
        let mut messages = Vec::new();
        // While the host is away no room comes back, and only reading shows its return.
        while self.port.may_read() && (!self.outbox.is_crowded() || self.port.is_away()) {
            self.port.read(&mut messages);
            for message in messages.drain(..) {
                self.obey(message);
            }
        }
    }

    fn reap(&mut self) {
        // One read empties it: the kernel merges what it announces.
        let _ = rustix::io::read(&self.children, &mut [0u8; 128][..]);
        while let Some((pid, ended)) = signals::reap() {
            let main = self.main.as_mut().is_some_and(|main| main.child_ended(pid, ended));
            let hook = self.hook.as_mut().is_some_and(|hook| hook.child_ended(pid, ended));
            // None of them: an orphan that was left to us.
            let _ = main || hook || self.execs.child_ended(pid, ended);
        }
    }

    /// Does what is due by time, and what follows from what has happened.
    fn tick(&mut self) {
        let look = self.listeners.next_look().is_some_and(|at| at <= Instant::now());
        if look && !self.outbox.is_crowded() {
            let changes = self.listeners.look();
            self.tell_listeners(changes);
        }
        self.execs.tick(&mut self.outbox);
        if let Some(last_word) = self.hook.as_mut().and_then(Hook::tick) {
            self.hook = None;
            if let Some(line) = last_word {
                self.log(&line);
            }
        }
        if let Some((ended, exit)) = self.main.as_mut().and_then(MainProcess::tick) {
            self.main = None;
            let changes = self.listeners.end();
            self.tell_listeners(changes);
            self.log(&main_process::epitaph(ended));
            if exit.oom {
                self.log("The kernel killed it for want of memory");
            }
            self.phase = Phase::Exited(exit);
            self.outbox.last_word(ToHost::Exited(exit));
        }
    }

    /// The orders cannot be carried out.
    pub(crate) fn fail(&mut self, error: String) {
        self.log(&error);
        self.phase = Phase::Failed(error.clone());
        self.outbox.last_word(ToHost::OrdersFailed(error));
    }

    fn tell_listeners(&mut self, changes: Vec<(Listener, bool)>) {
        for (listener, began) in changes {
            self.outbox.control(ToHost::Listening(listener, began));
        }
    }

    /// A line of init's own.
    pub(crate) fn log(&mut self, line: &str) {
        self.outbox.logs.push(LogSource::Init, format!("{line}\n").as_bytes());
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
