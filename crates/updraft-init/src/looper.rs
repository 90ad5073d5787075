//! The loop: one thread that owns all state, and one poll for all that happens.

use crate::boot::Booted;
use crate::exec::{Execs, Stream};
use crate::listen::Listeners;
use crate::main_process::{self, MainProcess};
use crate::outbox::Outbox;
use crate::port::Port;
use crate::prepare::{self, Means, Prepared};
use crate::trace::ListenEvents;
use crate::{boot, clock, power, ps, signals};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};
use wire::guest::{
    ExecId, Listener, LogSource, MAX_CHUNK, Main, Orders, Phase, ToGuest, ToHost, VERSION,
};
use wire::machines::Process;

/// Bytes of log held before the orders say how many.
const LOG_BUFFER: usize = 64 * 1024;
/// How long the last words may take to leave before power goes off.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Interval of looking for listeners where the kernel does not announce them.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Stack of the helping threads: they do little.
const STACK: usize = 256 * 1024;

/// What a helping thread has to tell.
enum News {
    Log(String),
    Prepared(Result<Prepared, String>),
    Processes(u32, Vec<Process>),
    ListenersChanged,
    ListenersUnannounced(rustix::io::Errno),
}

/// The way of news to the loop.
#[derive(Clone)]
struct Herald {
    news: Sender<News>,
    bell: Arc<OwnedFd>,
}

impl Herald {
    fn tell(&self, news: News) {
        let _ = self.news.send(news);
        let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
    }
}

/// Something to be done.
enum Ready {
    Port,
    Children,
    Bell,
    Main(Stream),
    Exec(ExecId, Stream),
}

/// Everything init knows.
pub(crate) struct Looper {
    port: Port,
    outbox: Outbox,
    phase: Phase,
    children: OwnedFd,
    herald: Herald,
    news: Receiver<News>,
    means: Option<Means>,
    spec: Main,
    main: Option<MainProcess>,
    /// A stop that came before there was anything to stop.
    early_stop: Option<(i32, Duration)>,
    execs: Execs,
    listeners: Listeners,
    listing: bool,
    scratch: Option<OwnedFd>,
    power_off_at: Option<Instant>,
    buffer: Vec<u8>,
}

impl Looper {
    /// Takes over from boot.
    pub(crate) fn new(booted: Booted) -> Self {
        let Booted { port, late_modules, uevents, stages, complaints } = booted;
        let (sender, news) = mpsc::channel();
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = rustix::event::eventfd(0, flags);
        let children = signals::child_events();
        let (Ok(bell), Ok(children)) = (bell, children) else {
            boot::kernel_message("cannot make an event descriptor");
            power::off(None)
        };
        let mut outbox = Outbox::new(LOG_BUFFER);
        outbox.logs.push(LogSource::Init, complaints.as_bytes());
        Self {
            port,
            outbox,
            phase: Phase::AwaitsOrders,
            children,
            herald: Herald { news: sender, bell: Arc::new(bell) },
            news,
            means: Some(Means { late_modules, uevents, stages }),
            spec: Main::default(),
            main: None,
            early_stop: None,
            execs: Execs::default(),
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
            PollFd::from_borrowed_fd(self.herald.bell.as_fd(), PollFlags::IN),
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
        let all = [main, self.execs.next_tick(), look, hear, speak, self.power_off_at];
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

    fn obey(&mut self, message: ToGuest) {
        match message {
            ToGuest::Hello { session, .. } => self.welcome(session),
            ToGuest::Orders(orders) => self.take_orders(*orders),
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
            ToGuest::Settle => self.outbox.control(ToHost::Settled),
            ToGuest::Resumed(_) | ToGuest::ApiData(..) | ToGuest::ApiEnd(_) => {}
            ToGuest::SetClock(now) => {
                if let Err(err) = clock::set(now) {
                    self.log(&format!("cannot set the clock: {err}"));
                }
            }
        }
    }

    fn welcome(&mut self, session: u64) {
        self.execs.forget();
        self.port.greeted();
        self.outbox.open_session(ToHost::Welcome {
            version: VERSION,
            session,
            phase: self.phase.clone(),
            listening: self.listeners.all(),
        });
    }

    fn take_orders(&mut self, orders: Orders) {
        let Some(means) = self.means.take() else { return };
        self.phase = Phase::Preparing;
        self.outbox.logs.set_limit((orders.log_buffer as usize).max(LOG_BUFFER / 16));
        let version = option_env!("UPDRAFT_COMMIT").unwrap_or(env!("CARGO_PKG_VERSION"));
        self.log(&format!("Starting init (commit: {version})..."));
        self.spec = orders.main.clone();
        self.listeners.begin(orders.net.as_ref().map(|net| net.ipv4));
        let started = self.help("prepare", move |herald| {
            let mut log = |line| herald.tell(News::Log(line));
            let prepared = prepare::prepare(&orders, means, &mut log);
            herald.tell(News::Prepared(prepared));
        });
        if let Err(err) = started {
            self.fail(format!("cannot start a thread: {err}"));
        }
    }

    fn list_processes(&mut self, number: u32) {
        // One at a time: /proc of a hostile app is slow to read.
        let listing = self.listing
            || self
                .help("ps", move |herald| herald.tell(News::Processes(number, ps::list())))
                .is_err();
        if listing {
            self.outbox.control(ToHost::Processes(number, Vec::new()));
        } else {
            self.listing = true;
        }
    }

    fn watch_listeners(&mut self) {
        let _ = self.help("listen", |herald| {
            let watched = ListenEvents::enable().and_then(|events| {
                herald.tell(News::ListenersChanged);
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

    /// Does something on a thread of its own.
    fn help(&self, name: &str, work: impl FnOnce(Herald) + Send + 'static) -> std::io::Result<()> {
        let herald = self.herald.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK);
        thread.spawn(move || work(herald)).map(drop)
    }

    fn hear_news(&mut self) {
        let _ = rustix::io::read(&*self.herald.bell, &mut [0u8; 8][..]);
        while let Ok(news) = self.news.try_recv() {
            match news {
                News::Log(line) => self.log(&line),
                News::Prepared(Ok(prepared)) => self.run_main(prepared),
                News::Prepared(Err(error)) => self.fail(error),
                News::Processes(number, list) => {
                    self.listing = false;
                    self.outbox.control(ToHost::Processes(number, list));
                }
                News::ListenersChanged => self.listeners.announced(),
                News::ListenersUnannounced(err) => {
                    self.log(&format!("listeners are polled, not announced: {err}"));
                    self.listeners.poll_every(LOOK_EVERY);
                }
            }
        }
    }

    fn run_main(&mut self, prepared: Prepared) {
        let Prepared { scratch, mut stages } = prepared;
        self.scratch = Some(scratch);
        let logs = &mut self.outbox.logs;
        let mut log = |line: String| logs.push(LogSource::Init, format!("{line}\n").as_bytes());
        match MainProcess::start(&mut self.spec, &mut log) {
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
    }

    fn fail(&mut self, error: String) {
        self.log(&error);
        self.phase = Phase::Failed(error.clone());
        self.outbox.last_word(ToHost::OrdersFailed(error));
    }

    fn reap(&mut self) {
        // One read empties it: the kernel merges what it announces.
        let _ = rustix::io::read(&self.children, &mut [0u8; 128][..]);
        while let Some((pid, ended)) = signals::reap() {
            let main = self.main.as_mut().is_some_and(|main| main.child_ended(pid, ended));
            // Neither: an orphan that was left to us.
            let _ = main || self.execs.child_ended(pid, ended);
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

    fn tell_listeners(&mut self, changes: Vec<(Listener, bool)>) {
        for (listener, began) in changes {
            self.outbox.control(ToHost::Listening(listener, began));
        }
    }

    fn log(&mut self, line: &str) {
        self.outbox.logs.push(LogSource::Init, format!("{line}\n").as_bytes());
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
