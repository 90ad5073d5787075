//! A host in memory, apps in its machines, an edge in front and a client.
//!
//! All streams are in memory. With [`config`] the edge runs on the test's own
//! runtime, so tests on paused time are deterministic.

use async_trait::async_trait;
use bytes::Bytes;
use edge::ports::{Directory, EdgeHost};
use edge::{Edge, EdgeConfig, Listener};
use futures_util::stream::BoxStream;
use host_api::*;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use model::id::{AppId, BootId, Epoch, HostId, InstanceId, MachineId};
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;
use wire::logs::{LogEntry, LogQuery};

pub(crate) type Any = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type OutBody = BoxBody<Bytes, Any>;

/// Nothing in a test takes longer, not even on paused time.
const TOO_LONG: Duration = Duration::from_secs(200);
/// Internal port of all apps.
pub(crate) const PORT: u16 = 8080;

/// Waits for `what`, and fails instead of hanging.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(TOO_LONG, what).await.expect("what is waited for never comes")
}

/// What a wake does.
#[derive(Clone)]
pub(crate) enum OnWake {
    /// Starting, started, listening; the app is served from then on.
    Up,
    /// Started, but it never listens.
    NeverListens,
    /// Refused.
    Refuse(WakeRefused),
    /// It is stopped on its way up, so this fails; the next is `Up`.
    Stopped,
    /// Up, once the gate is opened.
    Gated(Arc<Notify>),
    /// Up, but its app can only be connected to that much later, as of a guest
    /// that has not run an instruction when its port is announced.
    Late(Duration),
    /// It was only about to go down: it resumes in the same boot.
    Resumes,
}

#[derive(Default)]
struct State {
    position: RoutePosition,
    boots: u128,
    routes: BTreeMap<MachineId, Route>,
    apps: HashMap<MachineId, App>,
    subscribers: Vec<mpsc::Sender<(u64, RouteChange)>>,
    /// The newest generation of this worker that the edge has acknowledged.
    acknowledged: Arc<watch::Sender<u64>>,
    on_wake: HashMap<MachineId, OnWake>,
    sessions: HashMap<MachineId, usize>,
    calls: Vec<String>,
    drained: Vec<String>,
    logs: Vec<String>,
    refuse_stops: bool,
    cannot_suspend: bool,
    /// It cannot be reached: it takes no subscriber and answers no connect.
    is_away: bool,
}

/// One host.
pub(crate) struct Host {
    state: Mutex<State>,
    changed: Notify,
}

/// The id of the machine that a test calls `name`: up to seven letters or digits.
pub(crate) fn id(name: &str) -> MachineId {
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex:0>14}").parse().unwrap()
}

/// The name again.
fn name(id: MachineId) -> String {
    let hex = id.to_string();
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..7).map(|n| byte(n * 2)).filter(|b| *b != 0).map(char::from).collect()
}

impl Host {
    pub(crate) fn new(number: u16) -> Self {
        let position = RoutePosition { host: HostId(number), epoch: 1, generation: 0 };
        let state = State { position, ..State::default() };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    pub(crate) fn change(&self, machine: &str, change: impl FnOnce(&mut Route)) {
        let mut s = self.state.lock().unwrap();
        s.position.generation += 1;
        s.boots += 1;
        let (generation, boot) = (s.position.generation, s.boots);
        let route = s.routes.get_mut(&id(machine)).unwrap();
        change(route);
        match route.state {
            RouteState::Starting | RouteState::Started => {
                route.boot.get_or_insert(BootId::new(1, boot));
            }
            RouteState::Stopping => {}
            RouteState::Asleep | RouteState::Unavailable => route.boot = None,
        }
        let route = Box::new(route.clone());
        s.subscribers
            .retain(|to| to.try_send((generation, RouteChange::Upsert(route.clone()))).is_ok());
        drop(s);
        self.changed.notify_waiters();
    }

    pub(crate) fn remove(&self, machine: &str) {
        let mut s = self.state.lock().unwrap();
        s.position.generation += 1;
        let generation = s.position.generation;
        s.routes.remove(&id(machine));
        let machine = id(machine);
        s.subscribers
            .retain(|to| to.try_send((generation, RouteChange::Remove { machine })).is_ok());
    }

    pub(crate) fn set(&self, machine: &str, state: RouteState, listening: bool) {
        self.change(machine, |r| {
            r.state = state;
            r.listening = if listening { vec![PORT] } else { vec![] };
        });
    }

    pub(crate) fn on_wake(&self, machine: &str, what: OnWake) {
        self.state.lock().unwrap().on_wake.insert(id(machine), what);
    }

    pub(crate) fn refuse_stops(&self, refuse: bool) {
        self.state.lock().unwrap().refuse_stops = refuse;
    }

    /// From now on what is to be suspended is stopped.
    pub(crate) fn cannot_suspend(&self) {
        self.state.lock().unwrap().cannot_suspend = true;
    }

    pub(crate) fn is_suspended(&self, machine: &str) -> bool {
        self.state.lock().unwrap().routes[&id(machine)].suspended
    }

    /// Sessions (exec and so on) that are open at a machine from now on.
    pub(crate) fn set_sessions(&self, machine: &str, count: usize) {
        self.state.lock().unwrap().sessions.insert(id(machine), count);
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    /// Machines that were reported as drained; not among the calls.
    pub(crate) fn drained_machines(&self) -> Vec<String> {
        self.state.lock().unwrap().drained.clone()
    }

    /// Waits until `n` machines were reported as drained.
    pub(crate) async fn until_drained(&self, n: usize) {
        self.until(|s| s.drained.len() >= n).await;
    }

    pub(crate) fn log_text(&self) -> String {
        self.state.lock().unwrap().logs.join("\n")
    }

    /// Waits until `n` calls have been made.
    pub(crate) async fn called(&self, n: usize) -> Vec<String> {
        self.until(|s| s.calls.len() >= n).await;
        self.calls()
    }

    pub(crate) async fn logged(&self, text: &str) {
        self.until(|s| s.logs.iter().any(|line| line.contains(text))).await;
    }

    pub(crate) async fn until_suspended(&self, machine: &str) {
        self.until(|s| s.routes[&id(machine)].suspended).await;
    }

    /// Waits until the edge has acknowledged all changes.
    pub(crate) async fn until_acknowledged(&self) {
        let mut acknowledged = self.state.lock().unwrap().acknowledged.subscribe();
        let generation = || self.state.lock().unwrap().position.generation;
        within(acknowledged.wait_for(|newest| *newest == generation())).await.unwrap();
    }

    async fn until(&self, ready: impl Fn(&State) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                let mut changed = std::pin::pin!(changed);
                changed.as_mut().enable();
                if ready(&self.state.lock().unwrap()) {
                    return;
                }
                changed.await;
            }
        };
        within(wait).await;
    }

    fn go_down(&self, how: &str, machine: MachineId) -> Result<(), WakeRefused> {
        self.note(format!("{how} {}", name(machine)));
        if self.state.lock().unwrap().refuse_stops {
            return Err(WakeRefused::Failed("no".into()));
        }
        self.take_down(&name(machine));
        Ok(())
    }

    fn note(&self, call: String) {
        self.state.lock().unwrap().calls.push(call);
        self.changed.notify_waiters();
    }

    fn app(&self, machine: &str) -> App {
        self.state.lock().unwrap().apps[&id(machine)].clone()
    }

    pub(crate) fn bring_up(&self, machine: &str) {
        self.change(machine, |r| (r.suspended, r.state) = (false, RouteState::Starting));
        self.app(machine).serve();
        self.set(machine, RouteState::Started, false);
        self.set(machine, RouteState::Started, true);
    }

    pub(crate) fn take_down(&self, machine: &str) {
        self.set(machine, RouteState::Stopping, false);
        self.app(machine).kill();
        self.set(machine, RouteState::Asleep, false);
    }

    /// It answers no call any more; its subscriptions stay open.
    pub(crate) fn go_away(&self) {
        self.state.lock().unwrap().is_away = true;
    }

    /// It answers calls again.
    pub(crate) fn come_back(&self) {
        self.state.lock().unwrap().is_away = false;
    }

    /// Its subscriptions end, as those of a host that does not answer pings.
    pub(crate) fn end_subscriptions(&self) {
        self.state.lock().unwrap().subscribers.clear();
    }

    /// Ends all subscriptions, as of a worker that restarts with its machines.
    pub(crate) fn restart_worker(&self) {
        let mut s = self.state.lock().unwrap();
        s.subscribers.clear();
        s.acknowledged = Arc::default();
        s.position = RoutePosition { epoch: s.position.epoch + 1, generation: 0, ..s.position };
    }
}

#[async_trait]
impl Routes for Host {
    async fn routes(&self, _context: CallContext) -> Result<RouteSubscription, HostError> {
        let mut s = self.state.lock().unwrap();
        if s.is_away {
            return Err(HostError::unreachable("the host is away"));
        }
        let (to, changes) = mpsc::channel(10_000);
        let (acknowledge, mut acknowledgements) = mpsc::channel::<u64>(10_000);
        s.subscribers.push(to);
        let acknowledged = s.acknowledged.clone();
        Handle::current().spawn(async move {
            while let Some(generation) = acknowledgements.recv().await {
                acknowledged.send_modify(|newest| *newest = generation.max(*newest));
            }
        });
        let routes = s.routes.values().cloned().collect();
        let snapshot = RouteSnapshot { position: s.position, routes };
        Ok(RouteSubscription { snapshot, changes, acknowledge })
    }
}

#[async_trait]
impl Load for Host {
    async fn wake(&self, context: CallContext, machine: MachineId) -> Result<(), WakeRefused> {
        let of = name(machine);
        self.note(format!("wake {of}"));
        let (what, state) = {
            let s = self.state.lock().unwrap();
            let what = s.on_wake.get(&machine).cloned().unwrap_or(OnWake::Up);
            assert_eq!(context.epoch, Some(s.routes[&machine].epoch));
            (what, s.routes[&machine].state)
        };
        if state == RouteState::Started {
            return Ok(());
        }
        match what {
            OnWake::Refuse(why) => return Err(why),
            OnWake::NeverListens => self.set(&of, RouteState::Started, false),
            OnWake::Stopped => {
                self.on_wake(&of, OnWake::Up);
                self.set(&of, RouteState::Starting, false);
                self.set(&of, RouteState::Stopping, false);
                // The edge has seen it.
                self.until_drained(1).await;
                self.set(&of, RouteState::Asleep, false);
                return Err(WakeRefused::Failed("stopped before it was started".into()));
            }
            OnWake::Up => self.bring_up(&of),
            OnWake::Late(by) => {
                let app = self.app(&of);
                app.kill();
                self.set(&of, RouteState::Started, true);
                let life = app.life.subscribe();
                app.runtime.clone().spawn(async move {
                    let mut ended = life.clone();
                    ended.mark_unchanged();
                    tokio::select! {
                        // It went down before its guest ran.
                        _ = ended.changed() => {}
                        () = tokio::time::sleep(by) => app.serve(),
                    }
                });
            }
            OnWake::Resumes => self.set(&of, RouteState::Started, true),
            OnWake::Gated(gate) => {
                gate.notified().await;
                self.bring_up(&of);
            }
        }
        Ok(())
    }

    async fn stop_idle(
        &self,
        _context: CallContext,
        machine: MachineId,
        _reason: String,
    ) -> Result<(), WakeRefused> {
        self.go_down("stop", machine)
    }

    async fn suspend_idle(
        &self,
        _context: CallContext,
        machine: MachineId,
        _reason: String,
    ) -> Result<(), WakeRefused> {
        self.go_down("suspend", machine)?;
        let suspended = !self.state.lock().unwrap().cannot_suspend;
        self.change(&name(machine), |r| r.suspended = suspended);
        Ok(())
    }

    fn drained(&self, machine: MachineId) {
        self.state.lock().unwrap().drained.push(name(machine));
        self.changed.notify_waiters();
    }

    fn sessions(&self, machine: MachineId) -> usize {
        self.state.lock().unwrap().sessions.get(&machine).copied().unwrap_or(0)
    }
}

#[async_trait]
impl Connections for Host {
    async fn connect(
        &self,
        context: CallContext,
        upstream: Upstream,
    ) -> io::Result<Box<dyn GuestStream>> {
        if self.state.lock().unwrap().is_away {
            context.deadline.passed().await;
            let late = HostError::DeadlineExceeded("the host is away".into());
            return Err(io::Error::new(ErrorKind::TimedOut, late));
        }
        let app = {
            let s = self.state.lock().unwrap();
            let route = s.routes.get(&upstream.machine).ok_or(ErrorKind::NotFound)?;
            if route.boot != Some(upstream.boot) {
                return Err(ErrorKind::NotFound.into());
            }
            assert_eq!(upstream.port, PORT);
            s.apps[&upstream.machine].clone()
        };
        Ok(Box::new(app.connect().await?))
    }

    async fn guest_connections(
        &self,
        _context: CallContext,
    ) -> Result<BoxStream<'static, GuestConnection>, HostError> {
        Err(HostError::Unsupported("the edge never asks for them".into()))
    }
}

#[async_trait]
impl EventFeed for Host {
    async fn follow_events(
        &self,
        _: CallContext,
        _: EventFilter,
    ) -> Result<BoxStream<'static, FeedItem>, HostError> {
        Err(HostError::Unsupported("the edge never asks for them".into()))
    }
}

#[async_trait]
impl Logs for Host {
    async fn logs(
        &self,
        _context: CallContext,
        _app: AppId,
        _query: LogQuery,
    ) -> Result<BoxStream<'static, LogEntry>, HostError> {
        Err(HostError::Unsupported("the edge never asks for them".into()))
    }

    fn append(&self, line: LogLine) {
        let machine = line.machine.map_or("-".into(), name);
        let line = format!("{} {} {machine} {}", line.app, line.provider, line.message);
        self.state.lock().unwrap().logs.push(line);
        self.changed.notify_waiters();
    }
}

/// Answers raw bytes, or nothing at all, and ends the connection.
type Raw = Option<&'static [u8]>;

/// An app that can be killed and served again.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) name: Arc<str>,
    pub(crate) gate: Arc<Notify>,
    pub(crate) connections: Arc<AtomicUsize>,
    /// Connections that are open now.
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) requests: Arc<AtomicUsize>,
    pub(crate) inside: Arc<AtomicUsize>,
    pub(crate) most_inside: Arc<AtomicUsize>,
    /// Closes connections after each answer without announcing it.
    pub(crate) hangs_up: Arc<AtomicBool>,
    /// Connects that get no answer, as of a SYN that is lost.
    pub(crate) lost_connects: Arc<AtomicUsize>,
    raw: Arc<Mutex<Option<Raw>>>,
    is_served: Arc<AtomicBool>,
    life: Arc<watch::Sender<u64>>,
    changed: Arc<Notify>,
    runtime: Handle,
}

impl App {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            gate: Arc::default(),
            connections: Arc::default(),
            open: Arc::default(),
            requests: Arc::default(),
            inside: Arc::default(),
            most_inside: Arc::default(),
            hangs_up: Arc::default(),
            lost_connects: Arc::default(),
            raw: Arc::default(),
            is_served: Arc::default(),
            life: Arc::new(watch::Sender::new(0)),
            changed: Arc::default(),
            runtime: Handle::current(),
        }
    }

    /// Waits until its counters are as `ready` wants them.
    pub(crate) async fn until(&self, ready: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                let mut changed = std::pin::pin!(changed);
                changed.as_mut().enable();
                if ready(self) {
                    return;
                }
                changed.await;
            }
        };
        within(wait).await;
    }

    fn count(&self, counter: &AtomicUsize) -> usize {
        let count = counter.fetch_add(1, SeqCst) + 1;
        self.changed.notify_waiters();
        count
    }

    fn uncount(&self, counter: &AtomicUsize) {
        counter.fetch_sub(1, SeqCst);
        self.changed.notify_waiters();
    }

    /// From now on each request gets these bytes, and then the connection ends.
    pub(crate) fn answers_raw(&self, bytes: Raw) {
        *self.raw.lock().unwrap() = Some(bytes);
    }

    pub(crate) fn kill(&self) {
        self.is_served.store(false, SeqCst);
        self.life.send_modify(|life| *life += 1);
    }

    pub(crate) fn serve(&self) {
        self.kill();
        self.is_served.store(true, SeqCst);
    }

    async fn connect(&self) -> io::Result<DuplexStream> {
        let lost = self.lost_connects.load(SeqCst);
        if lost > 0 {
            self.lost_connects.store(lost - 1, SeqCst);
            std::future::pending::<()>().await;
        }
        if !self.is_served.load(SeqCst) {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = tokio::io::duplex(64 << 10);
        let mut life = self.life.subscribe();
        life.mark_unchanged();
        self.count(&self.connections);
        self.count(&self.open);
        let app = self.clone();
        self.runtime.spawn(async move {
            tokio::select! {
                _ = life.changed() => {}
                () = app.clone().connection(near) => {}
            }
            app.uncount(&app.open);
        });
        Ok(far)
    }

    async fn connection(self, mut stream: DuplexStream) {
        let raw = *self.raw.lock().unwrap();
        if let Some(raw) = raw {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return };
                head.push(byte);
            }
            self.count(&self.requests);
            if let Some(bytes) = raw {
                let _ = stream.write_all(bytes).await;
            }
            return;
        }
        let app = self.clone();
        let service = service_fn(move |req| {
            let app = app.clone();
            async move { Ok::<_, Infallible>(app.answer(req).await) }
        });
        let conn = hyper::server::conn::http1::Builder::new()
            .keep_alive(true)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut conn = std::pin::pin!(conn);
        if !self.hangs_up.load(SeqCst) {
            let _ = conn.await;
            return;
        }
        // Ends once the first answer has been sent, without `Connection: close`.
        let before = self.requests.load(SeqCst);
        tokio::select! {
            _ = &mut conn => {}
            () = async {
                self.until(|app| app.requests.load(SeqCst) > before).await;
                for _ in 0..20 { tokio::task::yield_now().await; }
            } => {}
        }
    }

    async fn answer(self, req: Request<Incoming>) -> Response<OutBody> {
        let inside = self.count(&self.inside);
        self.most_inside.fetch_max(inside, SeqCst);
        let response = self.clone().answer_inside(req).await;
        self.uncount(&self.inside);
        self.count(&self.requests);
        response
    }

    async fn answer_inside(self, req: Request<Incoming>) -> Response<OutBody> {
        match req.uri().path() {
            "/timed" => {
                let mut response = Response::new(text("timed"));
                response.headers_mut().insert("server-timing", "db;dur=7".parse().unwrap());
                response
            }
            "/gate" => {
                self.gate.notified().await;
                Response::new(text("through"))
            }
            "/headers" => {
                let line = |(k, v): (&http::HeaderName, &http::HeaderValue)| {
                    format!("{k}: {}\n", v.to_str().unwrap())
                };
                let mut lines: Vec<_> = req.headers().iter().map(line).collect();
                lines.push(format!("{} {} {:?}\n", req.method(), req.uri(), req.version()));
                let mut response = Response::new(text(&lines.concat()));
                response.headers_mut().insert("server", "app/1".parse().unwrap());
                response.headers_mut().insert("keep-alive", "timeout=5".parse().unwrap());
                response
            }
            "/sum" => {
                let mut body = req.into_body();
                let (mut n, mut sum) = (0u64, 0u64);
                while let Some(frame) = body.frame().await {
                    let Ok(frame) = frame else { return Response::new(text("broken")) };
                    let Ok(data) = frame.into_data() else { continue };
                    for b in data {
                        n += 1;
                        sum = sum.wrapping_mul(31).wrapping_add(b.into());
                    }
                }
                Response::new(text(&format!("{n} {sum}")))
            }
            "/trailers" => {
                let body = req.into_body().collect().await.unwrap();
                let got = body.trailers().and_then(|t| t.get("x-in")).cloned();
                let mut trailers = http::HeaderMap::new();
                trailers.insert("x-out", got.unwrap_or_else(|| "none".parse().unwrap()));
                let frames = [Ok(Frame::data(Bytes::from("body"))), Ok(Frame::trailers(trailers))];
                let body = StreamBody::new(futures_util::stream::iter(frames));
                let mut response = Response::new(BodyExt::boxed(body));
                response.headers_mut().insert("trailer", "x-out".parse().unwrap());
                response
            }
            "/big" => {
                let chunk = Bytes::from(vec![7; 1 << 20]);
                let frames = (0..64).map(move |_| Ok(Frame::data(chunk.clone())));
                let body = StreamBody::new(futures_util::stream::iter(frames));
                Response::new(BodyExt::boxed(body))
            }
            "/ws" => self.websocket(req),
            _ => Response::new(text(&format!("hello from {}", self.name))),
        }
    }

    /// Changes to the protocol that the query names, and echoes.
    fn websocket(self, mut req: Request<Incoming>) -> Response<OutBody> {
        let on = hyper::upgrade::on(&mut req);
        let protocol = req.uri().query().unwrap_or("websocket").to_owned();
        let mut life = self.life.subscribe();
        life.mark_unchanged();
        self.runtime.spawn(async move {
            let Ok(upgraded) = on.await else { return };
            let mut io = TokioIo::new(upgraded);
            let mut buffer = [0; 1024];
            let echo = async {
                while let Ok(n) = io.read(&mut buffer).await {
                    if n == 0 || io.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                _ = life.changed() => {}
                () = echo => {}
            }
        });
        let mut response = Response::new(text(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert("connection", "upgrade".parse().unwrap());
        headers.insert("upgrade", protocol.parse().unwrap());
        response
    }
}

pub(crate) fn text(text: &str) -> OutBody {
    Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed()
}

pub(crate) fn empty() -> OutBody {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// Knows the app `empty`, which has no machines.
struct OneEmptyApp;

impl Directory for OneEmptyApp {
    fn app_id(&self, name: &str) -> Option<AppId> {
        (name == "empty").then_some(AppId(7))
    }
}

/// An edge, its host and how to ask it.
pub(crate) struct World {
    pub(crate) host: Arc<Host>,
    pub(crate) hosts: watch::Sender<Vec<EdgeHost>>,
    pub(crate) edge: Edge,
    pub(crate) tasks: rt::Tasks,
    pub(crate) registry: Registry,
}

/// An edge on the test's own runtime.
pub(crate) fn config() -> EdgeConfig {
    EdgeConfig {
        listeners: vec![Listener { addr: ([127, 0, 0, 1], 0).into(), port_as: Some(80) }],
        cores: 0,
        drain: Duration::from_secs(5),
        ..EdgeConfig::default()
    }
}

/// An edge on two threads, for tests of races on real time.
pub(crate) fn on_threads() -> EdgeConfig {
    EdgeConfig { cores: 2, ..config() }
}

fn service() -> serde_json::Value {
    serde_json::json!({
        "protocol": "tcp", "internal_port": PORT,
        "ports": [{"port": 80, "handlers": ["http"]}],
        "concurrency": {"type": "requests", "soft_limit": 200},
        "autostop": false, "autostart": true,
    })
}

impl World {
    pub(crate) async fn new(config: EdgeConfig) -> Self {
        let host = Arc::new(Host::new(0));
        let (hosts, watched) = watch::channel(vec![EdgeHost::new(HostId(0), host.clone())]);
        let tasks = rt::Tasks::new();
        let mut registry = Registry::default();
        let directory = Arc::new(OneEmptyApp);
        let edge =
            Edge::start(config, watched, directory, tasks.clone(), &mut registry).await.unwrap();
        Self { host, hosts, edge, tasks, registry }
    }

    /// Another host, which the edge follows from now on.
    pub(crate) fn add_host(&self, number: u16) -> Arc<Host> {
        let host = Arc::new(Host::new(number));
        self.hosts.send_modify(|all| all.push(EdgeHost::new(HostId(number), host.clone())));
        host
    }

    /// A machine of app `web` whose app is not served yet.
    pub(crate) fn machine(&self, id: &str, tune: impl FnOnce(&mut serde_json::Value)) -> App {
        self.machine_of(&self.host, id, tune)
    }

    pub(crate) fn machine_of(
        &self,
        host: &Host,
        name: &str,
        tune: impl FnOnce(&mut serde_json::Value),
    ) -> App {
        let app = App::new(name);
        let mut service = service();
        tune(&mut service);
        let route = Route {
            app: AppId(1),
            app_name: "web".parse().unwrap(),
            machine: id(name),
            epoch: Epoch(1),
            region: "local".into(),
            instance: InstanceId::new(1, 1),
            boot: None,
            state: RouteState::Asleep,
            listening: vec![],
            cordoned: false,
            services: vec![serde_json::from_value(service).unwrap()],
            disable_autostart: false,
            primary_region: None,
            last_failure: None,
            suspended: false,
            started_ms: 0,
            stages_ms: Vec::new(),
            health: Vec::new(),
        };
        {
            let mut s = host.state.lock().unwrap();
            s.routes.insert(id(name), route);
            s.apps.insert(id(name), app.clone());
        }
        host.change(name, |_| {});
        app
    }

    /// A machine that runs and listens.
    pub(crate) fn running(&self, id: &str) -> App {
        let app = self.machine(id, |_| {});
        self.host.bring_up(id);
        app
    }

    /// A connection of a client.
    pub(crate) fn connect(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 << 10);
        self.edge.serve_stream(Box::new(far), SocketAddr::from(([127, 0, 0, 1], 5555)));
        near
    }

    pub(crate) async fn client(&self) -> Client {
        self.host.settle().await;
        Client::new(self.connect()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(request(path)).await
    }

    pub(crate) async fn ask(&self, req: Request<OutBody>) -> Answer {
        self.client().await.ask(req).await
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    pub(crate) async fn end(self) {
        assert!(self.tasks.shutdown(Duration::from_secs(20)).await, "the edge did not end");
    }
}

impl Host {
    /// Lets the edge take what has been sent to it.
    pub(crate) async fn settle(&self) {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) fn request(path: &str) -> Request<OutBody> {
    Request::get(path).header("host", "web.localhost").body(empty()).unwrap()
}

pub(crate) fn post(path: &str, body: OutBody) -> Request<OutBody> {
    Request::post(path).header("host", "web.localhost").body(body).unwrap()
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
    pub(crate) trailers: Option<http::HeaderMap>,
}

impl Answer {
    /// Status and code of an answer of the edge itself.
    pub(crate) fn code(&self) -> (u16, &str) {
        let code = self.headers.get("updraft-error").map_or("none", |code| code.to_str().unwrap());
        assert!(code == "none" || self.text.contains(code), "{}", self.text);
        (self.status, code)
    }
}

pub(crate) struct Client(hyper::client::conn::http1::SendRequest<OutBody>);

impl Client {
    pub(crate) async fn new<S>(stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let io = TokioIo::new(ReadsOn(stream));
        let mut http1 = hyper::client::conn::http1::Builder::new();
        let (sender, conn) = http1.max_headers(300).handshake(io).await.unwrap();
        Handle::current().spawn(async move { conn.with_upgrades().await });
        Self(sender)
    }

    pub(crate) async fn ask(&mut self, req: Request<OutBody>) -> Answer {
        within(async { read(self.send(req).await).await }).await
    }

    pub(crate) async fn send(&mut self, req: Request<OutBody>) -> Response<Incoming> {
        self.0.ready().await.unwrap();
        within(self.0.send_request(req)).await.unwrap()
    }
}

/// A connection of a client that, as curl does, reads the answer although its
/// upload is no longer taken; hyper's own client gives up at once.
struct ReadsOn<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for ReadsOn<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadsOn<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.0).poll_write(cx, buf) {
            Poll::Ready(Err(_)) => Poll::Ready(Ok(buf.len())),
            other => other,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

pub(crate) async fn read(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Answer { status: head.status.as_u16(), headers: head.headers, text, trailers }
}
