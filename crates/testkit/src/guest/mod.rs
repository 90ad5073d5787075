//! A guest that uses the real protocol and whose main process is a script.
//!
//! It runs on a thread of its own, also while no daemon runs: it keeps its phase, its
//! ports and its log for the next session.
//!
//! The first of the main process's arguments selects what it does:
//!
//! | arguments | behaviour |
//! |---|---|
//! | `serve 80 81` | runs, listens on the ports, ends with 0 at any signal |
//! | `exit 3` | runs and ends with 3 |
//! | `oom` | runs and is killed by the OOM killer |
//! | `stubborn` | runs and ignores every signal but SIGKILL |
//! | `crash-vm` | its VM crashes before anything runs |
//! | `config-fails TEXT` | cannot apply its configuration |
//! | `never-runs` | takes its configuration and reports nothing more |
//! | `flood 100` | like `serve`, and writes this many lines |
//! | `show A /etc/f` | like `serve`, and writes these variables and files of its config |
//!
//! A guest with the kernel argument `silent` never answers.

mod execs;
mod runtime;

pub(crate) use runtime::GuestRuntime;

use crate::CrashPoints;
use execs::Execs;
use futures_util::FutureExt;
use guest_protocol::codec::{Decoder, encode};
use guest_protocol::{Exit, GuestConfig, HIGHEST, Listener, LogSource, Phase, ToGuest, ToHost};
use guest_protocol::{GuestStats, Process, UnitState, UnitStatus};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};

/// Pid of the main process in every fake guest.
const MAIN_PID: i32 = 42;
const SIGKILL: i32 = 9;

/// An action that a test makes a guest do.
#[derive(Clone, Debug)]
pub enum GuestAction {
    /// The main process ends.
    Exit(Exit),
    /// It begins to listen.
    Listen(u16),
    /// It ceases to listen.
    Unlisten(u16),
    /// It writes a line.
    Log(String),
    /// A process connects to `/.fly/api` and sends this.
    Api(u32, String),
    /// It closes that connection.
    ApiEnd(u32),
    /// From now on its phase is one that the host does not know.
    HidePhase,
    /// From now on it answers nothing.
    Hang,
    /// The VM's process ends without a report of the guest.
    CrashVm,
}

/// A command of the hypervisor to a guest.
pub(crate) enum Control {
    /// Pauses it, and sends its state in that moment.
    Pause(oneshot::Sender<State>),
    /// Resumes it.
    Resume,
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
    pub(crate) actions: mpsc::UnboundedReceiver<GuestAction>,
    pub(crate) controls: mpsc::UnboundedReceiver<Control>,
    pub(crate) points: CrashPoints,
    pub(crate) state: State,
    /// The listening ports of `state`, for clients that connect.
    pub(crate) ports: SharedPorts,
    /// It is paused.
    pub(crate) paused: bool,
    /// Set if something was sent to it while it was paused: with a real port the
    /// snapshot would have been inconsistent.
    pub(crate) torn: Arc<AtomicBool>,
}

/// Ports that a guest listens on, as a client that connects finds them.
pub(crate) type SharedPorts = Arc<Mutex<BTreeSet<u16>>>;

/// The state that outlives a session.
#[derive(Clone, Debug)]
pub(crate) struct State {
    phase: Phase,
    listening: BTreeSet<Listener>,
    stubborn: bool,
    /// Log lines that the host has not acknowledged, each with its offset.
    unacknowledged: VecDeque<(u64, Vec<u8>)>,
    /// Bytes of the log so far.
    logged: u64,
    /// How many processes or containers it has; all do the same.
    units: usize,
    /// When SIGKILL follows.
    kill_at: Option<tokio::time::Instant>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: Phase::AwaitingConfig,
            listening: BTreeSet::new(),
            stubborn: false,
            unacknowledged: VecDeque::new(),
            logged: 0,
            units: 0,
            kill_at: None,
        }
    }
}

impl State {
    /// Makes `ports` those that are listened on now.
    pub(crate) fn show_ports(&self, ports: &SharedPorts) {
        let now = self.listening.iter().map(|listener| listener.port).collect();
        *ports.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// One session, from the connection on.
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
            if self.paused {
                self.wait_paused(&mut session, &mut buffer).await;
            }
            let kill_at = self.state.kill_at;
            tokio::select! {
                biased;
                Some(control) = self.controls.recv() => {
                    if let Some(end) = self.read_rest(&mut session, &mut buffer).await {
                        return end;
                    }
                    self.on_control(control);
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
                Some(action) = self.actions.recv() => {
                    if let Some(end) = self.on_action(action, &mut session).await {
                        return end;
                    }
                }
                () = sleep_until(kill_at) => {
                    self.end_main(Exit { code: 128 + SIGKILL, signal: SIGKILL, oom: false }, &mut session).await;
                }
            }
        }
    }

    /// Reads what was written to it before it is paused; only what is written later
    /// is lost.
    async fn read_rest(&mut self, session: &mut Option<Session>, buffer: &mut [u8]) -> Option<End> {
        while let Some(read) = read(session, buffer).now_or_never() {
            if let Some(end) = self.on_bytes(session, &buffer[..read]).await {
                return Some(end);
            }
        }
        None
    }

    fn on_control(&mut self, control: Control) {
        self.paused = matches!(control, Control::Pause(_));
        if let Control::Pause(state) = control {
            // The caller may have been killed.
            let _ = state.send(self.state.clone());
        }
    }

    /// Stays paused until it is resumed; only notices what is sent to it.
    async fn wait_paused(&mut self, session: &mut Option<Session>, buffer: &mut [u8]) {
        while self.paused {
            tokio::select! {
                biased;
                control = self.controls.recv() => match control {
                    Some(control) => self.on_control(control),
                    None => std::future::pending().await,
                },
                read = read(session, buffer) => {
                    if read > 0 {
                        self.torn.store(true, Ordering::Relaxed);
                    }
                    // Its session is over in any case.
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
            ToGuest::Configure(config) => return self.configure(*config, session).await,
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
                send(session, ToHost::Processes(number, vec![process])).await;
            }
            ToGuest::ReadStats(number) => {
                let loadavg = "0.50 0.25 0.10 1/42 7\n".to_owned();
                let stats = GuestStats { loadavg, ..GuestStats::default() };
                send(session, ToHost::Stats(number, Box::new(stats))).await;
            }
            ToGuest::QuiesceForTemplate => send(session, ToHost::Quiesced).await,
            ToGuest::Awake(_) => {}
            ToGuest::LogReceived(_, stored, _) => {
                let log = &mut self.state.unacknowledged;
                log.retain(|(offset, data)| offset + data.len() as u64 > stored);
            }
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
                    send(session, answer).await;
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
            version: HIGHEST,
            session: number,
            phase: self.state.phase.clone(),
            listening: self.state.listening.iter().copied().collect(),
        };
        send(session, welcome).await;
        for (offset, data) in self.state.unacknowledged.clone() {
            send(session, log_message(offset, data)).await;
        }
        self.report_units(session).await;
    }

    async fn report_units(&mut self, session: &mut Option<Session>) {
        let state = match self.state.phase {
            Phase::Running(_) => UnitState::Started,
            _ => UnitState::Stopped,
        };
        for unit in (0..).take(self.state.units) {
            send(session, ToHost::Unit(UnitStatus { unit, state, exit: None })).await;
        }
    }

    async fn configure(
        &mut self,
        config: GuestConfig,
        session: &mut Option<Session>,
    ) -> Option<End> {
        if self.state.phase != Phase::AwaitingConfig {
            return None;
        }
        self.state.phase = Phase::Preparing;
        self.points.pass_outside("guest: has its config").await;
        let shown = shown(&config);
        // The first of several selects what it does.
        let first = config.units.as_ref().and_then(|units| units.first());
        let argv = first.map_or(config.main.argv, |unit| unit.main.argv.clone());
        self.state.units = config.units.map_or(0, |units| units.len());
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["crash-vm", ..] => return Some(End::Crashed),
            ["never-runs", ..] => return None,
            ["config-fails", text, ..] => {
                self.state.phase = Phase::Failed((*text).into());
                send(session, ToHost::ConfigFailed((*text).into())).await;
                return None;
            }
            _ => {}
        }
        self.state.phase = Phase::Running(MAIN_PID);
        self.points.pass_outside("guest: main process runs").await;
        send(session, ToHost::Running { pid: MAIN_PID, stages_ms: vec![("main".into(), 1.0)] })
            .await;
        for line in shown {
            self.log(&line, session).await;
        }
        self.report_units(session).await;
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

    async fn on_action(
        &mut self,
        action: GuestAction,
        session: &mut Option<Session>,
    ) -> Option<End> {
        match action {
            GuestAction::Exit(exit) => self.end_main(exit, session).await,
            GuestAction::Listen(port) => self.listen(port, true, session).await,
            GuestAction::Unlisten(port) => self.listen(port, false, session).await,
            GuestAction::Log(line) => self.log(&line, session).await,
            GuestAction::Api(id, text) => {
                send(session, ToHost::ApiOpen(id, false)).await;
                send(session, ToHost::ApiData(id, text.into_bytes())).await;
            }
            GuestAction::ApiEnd(id) => send(session, ToHost::ApiEnd(id)).await,
            GuestAction::HidePhase => self.state.phase = Phase::Unknown,
            GuestAction::Hang => self.silent = true,
            GuestAction::CrashVm => return Some(End::Crashed),
        }
        None
    }

    async fn listen(&mut self, port: u16, begun: bool, session: &mut Option<Session>) {
        let listener = Listener { port, reachable: true };
        let changed = match begun {
            true => self.state.listening.insert(listener),
            false => self.state.listening.remove(&listener),
        };
        self.state.show_ports(&self.ports);
        if changed {
            send(session, ToHost::Listening(listener, begun)).await;
        }
    }

    async fn log(&mut self, line: &str, session: &mut Option<Session>) {
        let (offset, data) = (self.state.logged, format!("{line}\n").into_bytes());
        self.state.logged += data.len() as u64;
        self.state.unacknowledged.push_back((offset, data.clone()));
        send(session, log_message(offset, data)).await;
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
        self.state.show_ports(&self.ports);
        self.points.pass_outside("guest: main process ended").await;
        send(session, ToHost::Exited(exit)).await;
    }
}

/// The lines of a main process that shows its config.
fn shown(config: &GuestConfig) -> Vec<String> {
    let (Some("show"), [_, names @ ..]) =
        (config.main.argv.first().map(String::as_str), config.main.argv.as_slice())
    else {
        return Vec::new();
    };
    let file = |path: &str| {
        let file = config.files.iter().find(|file| file.path == path)?;
        Some(String::from_utf8_lossy(&file.content).into_owned())
    };
    let variable = |name: &str| {
        let found = config.main.env.iter().find(|(known, _)| known == name)?;
        Some(found.1.clone())
    };
    let value = |name: &String| match name.starts_with('/') {
        true => file(name),
        false => variable(name),
    };
    names.iter().map(|name| format!("{name}={}", value(name).unwrap_or("?".into()))).collect()
}

fn log_message(offset: u64, data: Vec<u8>) -> ToHost {
    ToHost::Log { source: LogSource::Stdout, offset: Some(offset), data, unit: None }
}

/// Sends a message if a session is open; the next welcome has what was missed.
async fn send(session: &mut Option<Session>, message: ToHost) {
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
