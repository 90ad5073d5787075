//! Hosts in memory, an app behind real sockets, and a client.

use async_trait::async_trait;
use bytes::Bytes;
use edge::ports::Workers;
use edge::{Edge, EdgeConfig, Listener};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use wire::routes::{Route, RouteChange, RouteSnapshot, RouteState, WakeRefused};

pub(crate) type Any = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type OutBody = BoxBody<Bytes, Any>;

/// What a wake does.
#[derive(Clone)]
pub(crate) enum OnWake {
    /// Starting, started, listening; the app is served from then on.
    Up,
    /// Started, but it never listens.
    Deaf,
    /// Refused.
    Refuse(WakeRefused),
    /// Somebody stops it on its way up, so this fails; the next is `Up`.
    Stopped,
    /// Up, once told.
    Gated(Arc<Notify>),
    /// Up, but its app can only be connected to that much later, as of a guest
    /// that has not run an instruction when its port is announced.
    Late(Duration),
    /// It was only about to go down: it runs on, as if nothing had been.
    GoesOn,
}

#[derive(Default)]
struct State {
    generation: u64,
    routes: BTreeMap<String, Route>,
    apps: BTreeMap<String, App>,
    subscribers: Vec<mpsc::Sender<(u64, RouteChange)>>,
    on_wake: BTreeMap<String, OnWake>,
    calls: Vec<String>,
    drained: Vec<String>,
    logs: Vec<String>,
    refuse_stops: bool,
    cannot_suspend: bool,
}

#[derive(Default)]
pub(crate) struct Hosts {
    state: Mutex<State>,
    changed: Notify,
}

impl Hosts {
    fn upsert(&self, id: &str, change: impl FnOnce(&mut Route)) {
        let mut s = self.state.lock().unwrap();
        s.generation += 1;
        let generation = s.generation;
        let route = s.routes.get_mut(id).unwrap();
        change(route);
        let route = Box::new(route.clone());
        s.subscribers
            .retain(|to| to.try_send((generation, RouteChange::Upsert(route.clone()))).is_ok());
        drop(s);
        self.changed.notify_waiters();
    }

    pub(crate) fn change(&self, id: &str, change: impl FnOnce(&mut Route)) {
        self.upsert(id, change);
    }

    pub(crate) fn set(&self, id: &str, state: RouteState, listening: bool) {
        self.upsert(id, |r| {
            r.state = state;
            let port = r.services[0].internal_port.unwrap();
            r.listening = if listening { vec![port] } else { vec![] };
        });
    }

    pub(crate) fn on_wake(&self, id: &str, what: OnWake) {
        self.state.lock().unwrap().on_wake.insert(id.into(), what);
    }

    pub(crate) fn refuse_stops(&self) {
        self.state.lock().unwrap().refuse_stops = true;
    }

    /// From now on what is to be suspended is stopped.
    pub(crate) fn cannot_suspend(&self) {
        self.state.lock().unwrap().cannot_suspend = true;
    }

    pub(crate) fn is_suspended(&self, id: &str) -> bool {
        self.state.lock().unwrap().routes[id].suspended
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    /// Machines that were said to be drained; not among the calls.
    pub(crate) fn drained(&self) -> Vec<String> {
        self.state.lock().unwrap().drained.clone()
    }

    /// Waits until `n` machines were said to be drained.
    pub(crate) async fn drained_of(&self, n: usize) {
        self.until(|s| s.drained.len() >= n).await;
    }

    pub(crate) fn logs(&self) -> String {
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

    async fn until(&self, ready: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if ready(&self.state.lock().unwrap()) {
                return;
            }
            changed.await;
        }
    }

    fn go_down(&self, how: &str, machine: &str) -> Result<(), WakeRefused> {
        self.note(format!("{how} {machine}"));
        if self.state.lock().unwrap().refuse_stops {
            return Err(WakeRefused::Failed("no".into()));
        }
        self.take_down(machine);
        Ok(())
    }

    fn note(&self, call: String) {
        self.state.lock().unwrap().calls.push(call);
        self.changed.notify_waiters();
    }

    pub(crate) async fn bring_up(&self, id: &str) {
        self.change(id, |r| r.suspended = false);
        self.set(id, RouteState::Starting, false);
        let app = self.state.lock().unwrap().apps.get(id).cloned();
        if let Some(app) = app {
            app.serve().await;
        }
        self.set(id, RouteState::Started, false);
        self.set(id, RouteState::Started, true);
    }

    pub(crate) fn take_down(&self, id: &str) {
        self.set(id, RouteState::Stopping, false);
        if let Some(app) = self.state.lock().unwrap().apps.get(id) {
            app.kill();
        }
        self.set(id, RouteState::Asleep, false);
    }
}

#[async_trait]
impl Workers for Hosts {
    async fn subscribe(&self) -> (RouteSnapshot, mpsc::Receiver<(u64, RouteChange)>) {
        let mut s = self.state.lock().unwrap();
        let (to, from) = mpsc::channel(10_000);
        s.subscribers.push(to);
        let routes = s.routes.values().cloned().collect();
        (RouteSnapshot { generation: s.generation, routes }, from)
    }

    async fn wake(&self, machine: &str) -> Result<(), WakeRefused> {
        self.note(format!("wake {machine}"));
        let (what, state) = {
            let s = self.state.lock().unwrap();
            let what = s.on_wake.get(machine).cloned().unwrap_or(OnWake::Up);
            (what, s.routes[machine].state)
        };
        if state == RouteState::Started {
            return Ok(());
        }
        match what {
            OnWake::Refuse(why) => return Err(why),
            OnWake::Deaf => self.set(machine, RouteState::Started, false),
            OnWake::Stopped => {
                self.on_wake(machine, OnWake::Up);
                self.set(machine, RouteState::Starting, false);
                self.set(machine, RouteState::Stopping, false);
                // The edge has seen it.
                self.drained_of(1).await;
                self.set(machine, RouteState::Asleep, false);
                return Err(WakeRefused::Failed("stopped before it was started".into()));
            }
            OnWake::Up => self.bring_up(machine).await,
            OnWake::Late(by) => {
                let app = self.state.lock().unwrap().apps[machine].clone();
                // Nothing of the former run answers any more.
                drop(app.listener().await);
                self.set(machine, RouteState::Started, true);
                let mut life = app.life.subscribe();
                life.mark_unchanged();
                #[allow(clippy::disallowed_methods)]
                tokio::spawn(async move {
                    tokio::select! {
                        // It went down before its guest ran.
                        _ = life.changed() => {}
                        () = tokio::time::sleep(by) => app.serve().await,
                    }
                });
            }
            OnWake::GoesOn => self.set(machine, RouteState::Started, true),
            OnWake::Gated(gate) => {
                gate.notified().await;
                self.bring_up(machine).await;
            }
        }
        Ok(())
    }

    async fn suspend_idle(&self, machine: &str, _reason: &str) -> Result<(), WakeRefused> {
        self.go_down("suspend", machine)?;
        let suspended = !self.state.lock().unwrap().cannot_suspend;
        self.change(machine, |r| r.suspended = suspended);
        Ok(())
    }

    async fn stop_idle(&self, machine: &str, _reason: &str) -> Result<(), WakeRefused> {
        self.go_down("stop", machine)
    }

    fn drained(&self, machine: &str) {
        self.state.lock().unwrap().drained.push(machine.into());
        self.changed.notify_waiters();
    }

    fn log(&self, app: &str, machine: Option<&str>, line: String) {
        let line = format!("{app} {} {line}", machine.unwrap_or("-"));
        self.state.lock().unwrap().logs.push(line);
        self.changed.notify_waiters();
    }
}

/// An app on a loopback port that can be killed and served again.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) id: Arc<str>,
    pub(crate) addr: SocketAddr,
    pub(crate) gate: Arc<Notify>,
    pub(crate) connections: Arc<AtomicUsize>,
    /// Connections that are open now.
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) requests: Arc<AtomicUsize>,
    pub(crate) inside: Arc<AtomicUsize>,
    pub(crate) most_inside: Arc<AtomicUsize>,
    life: Arc<watch::Sender<u64>>,
    /// Close keep-alive connections after each answer without saying so.
    pub(crate) hangs_up: Arc<AtomicUsize>,
}

impl App {
    pub(crate) async fn new(id: &str) -> Self {
        // An address of its own: nobody else is given its port while it is down.
        static APPS: AtomicU32 = AtomicU32::new(1);
        let [_, a, b, c] = APPS.fetch_add(1, SeqCst).to_be_bytes();
        let own = Ipv4Addr::new(127, a, b + 1, c);
        let listener = TcpListener::bind((own, 0)).await.unwrap();
        Self {
            id: id.into(),
            addr: listener.local_addr().unwrap(),
            gate: Arc::default(),
            connections: Arc::default(),
            open: Arc::default(),
            requests: Arc::default(),
            inside: Arc::default(),
            most_inside: Arc::default(),
            life: Arc::new(watch::Sender::new(0)),
            hangs_up: Arc::default(),
        }
    }

    pub(crate) fn kill(&self) {
        self.life.send_modify(|life| *life += 1);
    }

    pub(crate) async fn serve(&self) {
        self.kill();
        let listener = self.listener().await;
        let app = self.clone();
        let mut life = self.life.subscribe();
        life.mark_unchanged();
        #[allow(clippy::disallowed_methods)]
        tokio::spawn(async move {
            let mut conns = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    _ = life.changed() => return,
                    accepted = listener.accept() => {
                        let (stream, _) = accepted.unwrap();
                        app.connections.fetch_add(1, SeqCst);
                        let app = app.clone();
                        conns.spawn(async move {
                            app.open.fetch_add(1, SeqCst);
                            app.clone().connection(stream).await;
                            app.open.fetch_sub(1, SeqCst);
                        });
                    }
                }
            }
        });
    }

    /// The former listener closes as soon as its task runs.
    async fn listener(&self) -> TcpListener {
        loop {
            match TcpListener::bind(self.addr).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    async fn connection(self, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
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
        if self.hangs_up.load(SeqCst) == 0 {
            let _ = conn.await;
            return;
        }
        // Ends once the first answer has been sent, without `Connection: close`.
        let before = self.requests.load(SeqCst);
        tokio::select! {
            _ = &mut conn => {}
            () = async {
                while self.requests.load(SeqCst) == before {
                    tokio::task::yield_now().await;
                }
                for _ in 0..20 { tokio::task::yield_now().await; }
            } => {}
        }
    }

    async fn answer(self, req: Request<Incoming>) -> Response<OutBody> {
        let inside = self.inside.fetch_add(1, SeqCst) + 1;
        self.most_inside.fetch_max(inside, SeqCst);
        let response = self.clone().answer_inside(req).await;
        self.inside.fetch_sub(1, SeqCst);
        self.requests.fetch_add(1, SeqCst);
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
            "/ws" => {
                let mut req = req;
                let on = hyper::upgrade::on(&mut req);
                #[allow(clippy::disallowed_methods)]
                tokio::spawn(async move {
                    let mut io = TokioIo::new(on.await.unwrap());
                    let mut buffer = [0; 1024];
                    while let Ok(n) = io.read(&mut buffer).await {
                        if n == 0 || io.write_all(&buffer[..n]).await.is_err() {
                            return;
                        }
                    }
                });
                let mut response = Response::new(text(""));
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let headers = response.headers_mut();
                headers.insert("connection", "upgrade".parse().unwrap());
                headers.insert("upgrade", "websocket".parse().unwrap());
                response
            }
            _ => Response::new(text(&format!("hello from {}", self.id))),
        }
    }
}

pub(crate) fn text(text: &str) -> OutBody {
    Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed()
}

pub(crate) fn empty() -> OutBody {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// An edge, its hosts and how to ask it.
pub(crate) struct World {
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) edge: SocketAddr,
    pub(crate) tasks: rt::Tasks,
    pub(crate) registry: Registry,
}

pub(crate) fn config() -> EdgeConfig {
    EdgeConfig {
        listeners: vec![Listener { addr: ([127, 0, 0, 1], 0).into(), port_as: Some(80) }],
        cores: 2,
        drain: Duration::from_secs(5),
        ..EdgeConfig::default()
    }
}

pub(crate) fn service(port: u16) -> serde_json::Value {
    serde_json::json!({
        "protocol": "tcp", "internal_port": port,
        "ports": [{"port": 80, "handlers": ["http"]}],
        "concurrency": {"type": "requests", "soft_limit": 200},
        "autostop": false, "autostart": true,
    })
}

impl World {
    pub(crate) async fn new(config: EdgeConfig) -> Self {
        let hosts = Arc::new(Hosts::default());
        let tasks = rt::Tasks::new();
        let mut registry = Registry::default();
        let edge = Edge::start(config, hosts.clone(), tasks.clone(), &mut registry).await.unwrap();
        let edge = edge.local_addrs()[0];
        Self { hosts, edge, tasks, registry }
    }

    /// A machine of app `web` whose app is not served yet.
    pub(crate) async fn machine(&self, id: &str, tune: impl FnOnce(&mut serde_json::Value)) -> App {
        let app = App::new(id).await;
        self.machine_at(&app, tune);
        app
    }

    pub(crate) fn machine_at(&self, app: &App, tune: impl FnOnce(&mut serde_json::Value)) {
        let mut service = service(app.addr.port());
        tune(&mut service);
        let route = Route {
            suspended: false,
            stages_ms: Vec::new(),
            app: "web".into(),
            machine: app.id.to_string(),
            region: "local".into(),
            instance: "01".into(),
            state: RouteState::Asleep,
            address: match app.addr {
                SocketAddr::V4(addr) => *addr.ip(),
                SocketAddr::V6(_) => unreachable!("it was given one"),
            },
            listening: vec![],
            cordoned: false,
            services: vec![serde_json::from_value(service).unwrap()],
            primary_region: None,
            last_failure: None,
        };
        {
            let mut s = self.hosts.state.lock().unwrap();
            s.routes.insert(app.id.to_string(), route);
            s.apps.insert(app.id.to_string(), app.clone());
        }
        self.hosts.change(&app.id, |_| {});
    }

    /// A machine that runs and listens.
    pub(crate) async fn running(&self, id: &str) -> App {
        let app = self.machine(id, |_| {}).await;
        self.hosts.bring_up(id).await;
        app
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(request(path)).await
    }

    pub(crate) async fn ask(&self, req: Request<OutBody>) -> Answer {
        Client::new(self.edge).await.ask(req).await
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

pub(crate) struct Client(hyper::client::conn::http1::SendRequest<OutBody>);

impl Client {
    pub(crate) async fn new(to: SocketAddr) -> Self {
        let io = TokioIo::new(ReadsOn(TcpStream::connect(to).await.unwrap()));
        let (sender, conn) = hyper::client::conn::http1::handshake(io).await.unwrap();
        #[allow(clippy::disallowed_methods)]
        tokio::spawn(async move { conn.with_upgrades().await });
        Self(sender)
    }

    pub(crate) async fn ask(&mut self, req: Request<OutBody>) -> Answer {
        read(self.send(req).await).await
    }

    pub(crate) async fn send(&mut self, req: Request<OutBody>) -> Response<Incoming> {
        self.0.ready().await.unwrap();
        self.0.send_request(req).await.unwrap()
    }
}

/// A connection of a client that, as curl does, reads the answer although its
/// upload is no longer taken; hyper's own client gives up at once.
struct ReadsOn(TcpStream);

impl AsyncRead for ReadsOn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for ReadsOn {
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
