//! A guest that speaks the real protocol and whose main process is a script.
//!
//! It lives in a thread of its own, so it goes on while no daemon runs: it
//! keeps its phase, its ports and its log for the next session.
//!
//! What it does is the first word of the main process's arguments:
//!
//! | words | what it does |
//! |---|---|
//! | `serve 80 81` | runs, listens on the ports, ends with 0 at any signal |
//! | `exit 3` | runs and ends with 3 |
//! | `oom` | runs and is killed for want of memory |
//! | `stubborn` | runs and ignores every signal but SIGKILL |
//! | `crash-vm` | its VM dies before anything runs |
//! | `orders-fail TEXT` | cannot carry out its orders |
//! | `never-runs` | takes its orders and says nothing more |
//! | `flood 100` | like `serve`, and writes so many lines |
//!
//! A guest whose kernel is told `silent` never answers at all.

mod execs;
mod land;

pub(crate) use land::Land;

use crate::CrashPoints;
use execs::Execs;
use futures_util::FutureExt;
use guest_protocol::Process;
use guest_protocol::codec::{Decoder, encode};
use guest_protocol::{Exit, Listener, LogSource, Orders, Phase, ToGuest, ToHost, VERSION};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};

/// Pid of the main process in every fake guest.
const MAIN_PID: i32 = 42;
const SIGKILL: i32 = 9;

/// Something a test makes a guest do.
#[derive(Clone, Debug)]
pub enum Deed {
    /// The main process ends.
    Exit(Exit),
    /// It begins to listen.
    Listen(u16),
    /// It ceases to listen.
    Unlisten(u16),
    /// It writes a line.
    Log(String),
    /// A process connects to `/.fly/api` and says this.
    Api(u32, String),
    /// It closes that connection.
    ApiEnd(u32),
    /// The VM's process ends without a word.
    CrashVm,
}

/// What its hypervisor does with a guest.
pub(crate) enum Control {
    /// It stands still; what it is in that moment is told.
    Still(oneshot::Sender<State>),
    /// It goes on.
    Go,
}

/// How a guest ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    PoweredOff,
    Crashed,
}

pub(crate) struct Guest {
    pub(crate) silent: bool,
    pub(crate) connections: mpsc::UnboundedReceiver<DuplexStream>,
    pub(crate) deeds: mpsc::UnboundedReceiver<Deed>,
    pub(crate) controls: mpsc::UnboundedReceiver<Control>,
    pub(crate) points: CrashPoints,
    pub(crate) state: State,
    /// It stands still.
    pub(crate) still: bool,
    /// Set if something was said to it while it stood still: a real port would
    /// have torn the snapshot by that.
    pub(crate) torn: Arc<AtomicBool>,
}

/// What outlives a session.
#[derive(Clone, Debug)]
pub(crate) struct State {
    phase: Phase,
    listening: BTreeSet<Listener>,
    stubborn: bool,
    /// Log lines written while nobody listened.
    unsent: Vec<ToHost>,
    /// When SIGKILL follows.
    kill_at: Option<tokio::time::Instant>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: Phase::AwaitingConfig,
            listening: BTreeSet::new(),
            stubborn: false,
            unsent: Vec::new(),
            kill_at: None,
        }
    }
}

/// One session, from the greeting on.
struct Session {
    port: DuplexStream,
    decoder: Decoder,
    greeted: bool,
    execs: Execs,
}

impl Guest {
    /// Runs until the VM ends by itself.
    pub(crate) async fn run(mut self) -> End {
        let mut session: Option<Session> = None;
        let mut buffer = vec![0; 64 << 10];
        loop {
            if self.still {
                self.stand(&mut session, &mut buffer).await;
            }
            let kill_at = self.state.kill_at;
            tokio::select! {
                biased;
                Some(control) = self.controls.recv() => {
                    if let Some(end) = self.read_rest(&mut session, &mut buffer).await {
                        return end;
                    }
                    self.obey_host(control);
                }
                Some(port) = self.connections.recv() => {
                    let decoder = Decoder::default();
                    session = Some(Session { port, decoder, greeted: false, execs: Execs::default() });
                }
                read = read(&mut session, &mut buffer) => {
                    if let Some(end) = self.on_bytes(&mut session, &buffer[..read]).await {
                        return end;
                    }
                }
                Some(deed) = self.deeds.recv() => {
                    if let Some(end) = self.on_deed(deed, &mut session).await {
                        return end;
                    }
                }
                () = sleep_until(kill_at) => {
                    self.end_main(Exit { code: 128 + SIGKILL, signal: SIGKILL, oom: false }, &mut session).await;
                }
            }
        }
    }

    /// Takes what was written to it before it stands still; only what is written
    /// later is lost.
    async fn read_rest(&mut self, session: &mut Option<Session>, buffer: &mut [u8]) -> Option<End> {
        while let Some(read) = read(session, buffer).now_or_never() {
            if let Some(end) = self.on_bytes(session, &buffer[..read]).await {
                return Some(end);
            }
        }
        None
    }

    fn obey_host(&mut self, control: Control) {
        self.still = matches!(control, Control::Still(_));
        if let Control::Still(state) = control {
            // Who asked may have been killed.
            let _ = state.send(self.state.clone());
        }
    }

    /// Stands still until told to go on; does nothing but notice what is said to it.
    async fn stand(&mut self, session: &mut Option<Session>, buffer: &mut [u8]) {
        while self.still {
            tokio::select! {
                biased;
                control = self.controls.recv() => match control {
                    Some(control) => self.obey_host(control),
                    None => std::future::pending().await,
                },
                read = read(session, buffer) => {
                    if read > 0 {
                        self.torn.store(true, Ordering::Relaxed);
                    }
                    // Its session is over whatever it was.
                    *session = None;
                }
            }
        }
    }

    async fn on_bytes(&mut self, session: &mut Option<Session>, bytes: &[u8]) -> Option<End> {
        let current = session.as_mut()?;
        if bytes.is_empty() {
            *session = None;
            return None;
        }
        let mut messages = Vec::new();
        current.decoder.feed(bytes, |message: ToGuest| messages.push(message));
        if self.silent {
            return None;
        }
        for message in messages {
            if let Some(end) = self.on_message(message, session).await {
                return Some(end);
            }
        }
        None
    }

    async fn on_message(&mut self, message: ToGuest, session: &mut Option<Session>) -> Option<End> {
        match message {
            ToGuest::Hello { session: number, .. } => self.greet(number, session).await,
            ToGuest::Configure(orders) => return self.obey(*orders, session).await,
            ToGuest::Stop { signal, timeout_ms } => {
                self.points.pass_outside("guest: asked to stop").await;
                self.state.kill_at =
                    tokio::time::Instant::now().checked_add(Duration::from_millis(timeout_ms));
                self.signal(signal, session).await;
            }
            ToGuest::Signal(signal) => self.signal(signal, session).await,
            ToGuest::PowerOff => {
                self.points.pass_outside("guest: powering off").await;
                return Some(End::PoweredOff);
            }
            ToGuest::ListProcesses(number) => {
                let process =
                    Process { pid: MAIN_PID, command: "main".into(), ..Process::default() };
                say(session, ToHost::Processes(number, vec![process])).await;
            }
            ToGuest::QuiesceForTemplate => say(session, ToHost::Quiesced).await,
            ToGuest::Awake(_) => {}
            ToGuest::Resumed(resume) => {
                let line = format!("resumed {}", resume.hook.join(" "));
                self.log(line.trim(), session).await;
            }
            ToGuest::ApiData(id, bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                self.log(&format!("api {id} answers {text}"), session).await;
            }
            ToGuest::ApiEnd(id) => self.log(&format!("api {id} ended"), session).await,
            exec => {
                let Some(current) = session else { return None };
                for answer in current.execs.on_message(exec) {
                    say(session, answer).await;
                }
            }
        }
        None
    }

    async fn greet(&mut self, number: u64, session: &mut Option<Session>) {
        if let Some(current) = session {
            current.greeted = true;
        }
        self.points.pass_outside("guest: before welcome").await;
        let welcome = ToHost::Welcome {
            version: VERSION,
            session: number,
            phase: self.state.phase.clone(),
            listening: self.state.listening.iter().copied().collect(),
        };
        say(session, welcome).await;
        for line in std::mem::take(&mut self.state.unsent) {
            say(session, line).await;
        }
    }

    async fn obey(&mut self, orders: Orders, session: &mut Option<Session>) -> Option<End> {
        if self.state.phase != Phase::AwaitingConfig {
            return None;
        }
        self.state.phase = Phase::Preparing;
        self.points.pass_outside("guest: has its orders").await;
        let argv = orders.main.argv;
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["crash-vm", ..] => return Some(End::Crashed),
            ["never-runs", ..] => return None,
            ["orders-fail", text, ..] => {
                self.state.phase = Phase::Failed((*text).into());
                say(session, ToHost::ConfigFailed((*text).into())).await;
                return None;
            }
            _ => {}
        }
        self.state.phase = Phase::Running(MAIN_PID);
        self.points.pass_outside("guest: main process runs").await;
        say(session, ToHost::Running { pid: MAIN_PID, stages_ms: vec![("main".into(), 1.0)] })
            .await;
        self.run_main(&words, session).await;
        None
    }

    async fn run_main(&mut self, words: &[&str], session: &mut Option<Session>) {
        let number = |text: &str| text.parse().unwrap_or(0);
        match words {
            ["exit", code, ..] => {
                let code = number(code);
                self.end_main(Exit { code, signal: 0, oom: false }, session).await;
            }
            ["oom", ..] => {
                self.end_main(Exit { code: 128 + SIGKILL, signal: SIGKILL, oom: true }, session)
                    .await;
            }
            ["stubborn", ..] => self.state.stubborn = true,
            ["flood", lines, ..] => {
                for n in 0..number(lines) {
                    self.log(&format!("line {n}"), session).await;
                }
            }
            ["serve", ports @ ..] => {
                for port in ports {
                    self.listen(number(port) as u16, true, session).await;
                }
            }
            _ => {}
        }
    }

    async fn on_deed(&mut self, deed: Deed, session: &mut Option<Session>) -> Option<End> {
        match deed {
            Deed::Exit(exit) => self.end_main(exit, session).await,
            Deed::Listen(port) => self.listen(port, true, session).await,
            Deed::Unlisten(port) => self.listen(port, false, session).await,
            Deed::Log(line) => self.log(&line, session).await,
            Deed::Api(id, text) => {
                say(session, ToHost::ApiOpen(id)).await;
                say(session, ToHost::ApiData(id, text.into_bytes())).await;
            }
            Deed::ApiEnd(id) => say(session, ToHost::ApiEnd(id)).await,
            Deed::CrashVm => return Some(End::Crashed),
        }
        None
    }

    async fn listen(&mut self, port: u16, begun: bool, session: &mut Option<Session>) {
        let listener = Listener { port, reachable: true };
        let changed = match begun {
            true => self.state.listening.insert(listener),
            false => self.state.listening.remove(&listener),
        };
        if changed {
            say(session, ToHost::Listening(listener, begun)).await;
        }
    }

    async fn log(&mut self, line: &str, session: &mut Option<Session>) {
        let message = ToHost::Log(LogSource::Stdout, format!("{line}\n").into_bytes());
        match session {
            Some(current) if current.greeted => say(session, message).await,
            _ => self.state.unsent.push(message),
        }
    }

    async fn signal(&mut self, signal: i32, session: &mut Option<Session>) {
        if signal == SIGKILL {
            let exit = Exit { code: 128 + SIGKILL, signal: SIGKILL, oom: false };
            self.end_main(exit, session).await;
        } else if !self.state.stubborn {
            self.end_main(Exit::default(), session).await;
        }
    }

    async fn end_main(&mut self, exit: Exit, session: &mut Option<Session>) {
        self.state.kill_at = None;
        if !matches!(self.state.phase, Phase::Running(_)) {
            return;
        }
        self.state.phase = Phase::Exited(exit);
        self.state.listening.clear();
        self.points.pass_outside("guest: main process ended").await;
        say(session, ToHost::Exited(exit)).await;
    }
}

/// Says something if a session is open; what is missed is in the next welcome.
async fn say(session: &mut Option<Session>, message: ToHost) {
    let Some(current) = session.as_mut().filter(|session| session.greeted) else { return };
    if current.port.write_all(&encode(&message)).await.is_err() {
        *session = None;
    }
}

async fn read(session: &mut Option<Session>, buffer: &mut [u8]) -> usize {
    match session {
        // A broken port counts as closed.
        Some(session) => session.port.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
