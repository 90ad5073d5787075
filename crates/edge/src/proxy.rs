//! One request, from its head to its answer's body.

use crate::body::{AppBody, Body, OutBody, Progress, Silence};
use crate::core::Core;
use crate::errors::{Code, Failure};
use crate::headers::{self, Origin};
use crate::hold::{Tries, place};
use crate::machine::{AppShared, Ticket};
use crate::route::{NoApp, app_of, authority};
use crate::table::Target;
use crate::timing::Marks;
use crate::tunnel;
use crate::upstream::Lease;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::timeout;

/// What is known of a client's connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// Outside ports of services it may mean, the best first.
    pub(crate) ports: Arc<[u16]>,
}

/// Answers a request.
pub(crate) async fn serve(
    core: Arc<Core>,
    client: Arc<Client>,
    request: Request<Incoming>,
) -> Response<Body> {
    let shared = &core.shared;
    let request_id = request_id(&core);
    let json = headers::wants_json(request.headers());
    let origin = Origin {
        peer: client.peer,
        local: client.local,
        port: client.ports[0],
        region: &shared.config.region,
        request_id: &request_id,
        version: request.version(),
    };
    let mut app = None;
    let answer = match route(&core, &request, &mut app) {
        Ok(name) => forward(&core, &client, &origin, name, request).await,
        Err(failure) => Err(failure),
    };
    let (mut response, pristine) = answer.unwrap_or_else(|failure| {
        let failure = match &app {
            Some(app) => failure.of_app(&app.name),
            None => failure,
        };
        shared.log_failure(app.as_deref(), &failure);
        (failure.response(&request_id, json), false)
    });
    match &app {
        Some(app) => app.metrics.answered(response.status().as_u16()),
        None => {
            shared.metrics.unrouted.inc();
        }
    }
    if !pristine {
        headers::to_client(response.headers_mut(), &origin, &shared.server);
    }
    response
}

fn request_id(core: &Core) -> String {
    let random = core.rng.wide_bits();
    let id = ulid::Ulid::from_parts(core.shared.clock.now_ms(), random);
    let mut text = [0; ulid::ULID_LEN];
    format!("{}-{}", id.array_to_str(&mut text), core.shared.config.region)
}

/// The app a request is for; its shared part goes to `found`.
fn route(
    core: &Core,
    request: &Request<Incoming>,
    found: &mut Option<Arc<AppShared>>,
) -> Result<String, Failure> {
    if request.method() == Method::CONNECT {
        return Err(Failure::new(Code::Ur05, "CONNECT is not served"));
    }
    let host = authority(request.uri(), request.headers());
    let name = host.and_then(|host| app_of(host, &core.shared.config.domains));
    let name = name.map_err(|why| match why {
        NoApp::BadHost => Failure::new(Code::Ur03, "the request names no host"),
        NoApp::OtherHost => Failure::new(Code::Ur01, "the host belongs to no app here"),
    })?;
    let table = core.view.table();
    let Some(app) = table.apps.get(&*name) else {
        return Err(Failure::new(Code::Ur01, "no app of this name has machines"));
    };
    *found = Some(app.shared.clone());
    Ok(name.into_owned())
}

/// A request on its way out; parts are missing once they have been sent.
struct Outgoing {
    head: Option<Parts>,
    body: Option<OutBody>,
    progress: Option<Arc<Progress>>,
    /// It may be sent again even if an app has seen it.
    repeatable: bool,
    upgrade: Option<(HeaderValue, OnUpgrade)>,
}

impl Outgoing {
    fn new(mut request: Request<Incoming>, origin: &Origin<'_>) -> Result<Self, Failure> {
        let protocol = headers::upgrade(request.version(), request.headers());
        let upgrade = protocol.map(|p| (p, hyper::upgrade::on(&mut request)));
        let (mut head, body) = request.into_parts();
        if let Some(authority) = head.uri.authority() {
            let host = HeaderValue::from_str(authority.as_str());
            let host = host.map_err(|_| Failure::new(Code::Ur03, "the host is not valid"))?;
            head.headers.insert(header::HOST, host);
        }
        let path = head.uri.path_and_query().cloned();
        head.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        head.version = Version::HTTP_11;
        head.extensions.clear();
        headers::to_app(&mut head.headers, origin);
        if let Some((protocol, _)) = &upgrade {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(header::UPGRADE, protocol.clone());
        }
        let (body, progress) = OutBody::new(body);
        let repeatable = progress.is_none() && headers::is_idempotent(&head.method);
        Ok(Self { head: Some(head), body: Some(body), progress, repeatable, upgrade })
    }

    /// A message to send; [`Outgoing::back`] undoes it if it was not.
    fn take(&mut self) -> Option<Request<OutBody>> {
        if self.repeatable {
            return Some(Request::from_parts(self.head.clone()?, OutBody::empty()));
        }
        Some(Request::from_parts(self.head.take()?, self.body.take()?))
    }

    fn back(&mut self, request: Request<OutBody>) {
        let (head, body) = request.into_parts();
        (self.head, self.body) = (Some(head), Some(body));
    }

    /// Nothing of it is lost: it can be sent (again).
    fn is_whole(&self) -> bool {
        self.head.is_some()
    }
}

type Answer = (Response<Body>, bool);

async fn forward(
    core: &Arc<Core>,
    client: &Client,
    origin: &Origin<'_>,
    app: String,
    request: Request<Incoming>,
) -> Result<Answer, Failure> {
    let mut outgoing = Outgoing::new(request, origin)?;
    let mut tries = Tries::new();
    loop {
        let (target, ticket) = place(core, &app, &client.ports, &mut tries).await?;
        // As it is before: another request may reach it while this one fails. It
        // may also go down again; how often it is woken then is limited.
        let settles = !target.machine.is_reached(target.machine.epoch());
        match attempt(core, &target, &mut outgoing, &mut tries.marks).await {
            Ok((response, lease)) => {
                let woke = tries.marks.waits_since().is_some();
                if woke {
                    core.shared.metrics.woke("first_byte", tries.marks.began.elapsed());
                }
                let pristine = target.pristine;
                let mut response = answer(core, &target, ticket, (response, lease), outgoing)?;
                if woke && !pristine {
                    tell_timing(&target, &tries.marks, &mut response);
                }
                return Ok((response, pristine));
            }
            Err(failure) if outgoing.is_whole() => {
                let failure = failure.on(&target.machine.id);
                if settles {
                    tries.not_yet(ticket, failure, &core.shared.config)?;
                } else {
                    core.shared.metrics.retries.inc();
                    tries.failed(&target.machine, failure, core.shared.config.retry_for)?;
                }
            }
            Err(failure) => return Err(failure.on(&target.machine.id)),
        }
    }
}

/// Says in an answer where the time went, if its service wants that.
fn tell_timing(target: &Target, marks: &Marks, response: &mut Response<Body>) {
    let Some(host) = &target.timing else { return };
    // It may have waited for one machine and be answered by another, or come
    // when the host's part was over.
    let host = if target.came_up >= marks.began { host } else { "" };
    marks.tell(response.headers_mut(), host);
}

/// Sends the request to one machine, over as many resting connections as turn
/// out closed, and then over a new one.
async fn attempt(
    core: &Arc<Core>,
    target: &Target,
    outgoing: &mut Outgoing,
    marks: &mut Marks,
) -> Result<(Response<Incoming>, Lease), Failure> {
    let (machine, limit) = (&target.machine, core.shared.config.connect_timeout);
    loop {
        let rested = match target.fresh {
            true => None,
            false => core.pool.rested(machine, target.addr).await,
        };
        let mut lease = match rested {
            Some(lease) => lease,
            None => {
                let made = core.pool.connect(machine, target.addr, !target.fresh, limit).await;
                made.map_err(|err| Failure::new(err.code, err.why))?
            }
        };
        if let Some(since) = marks.connected() {
            core.shared.metrics.woke("connect", since);
        }
        lease.progress = outgoing.progress.clone();
        let Some(request) = outgoing.take() else {
            return Err(Failure::new(Code::Pu02, "the request could not be sent again"));
        };
        let sent = lease.sender.try_send_request(request);
        let idle = idle_limit(core, target);
        let mut unsent = match unless_silent(sent, idle, outgoing.progress.as_deref()).await {
            Some(Ok(response)) => return Ok((response, lease)),
            Some(Err(unsent)) => unsent,
            None => {
                // The app has it and may still act on it: never again.
                outgoing.head = None;
                let text = format!("the app sent nothing for {idle:?}");
                return Err(Failure::new(Code::Ur04, text));
            }
        };
        if let Some(request) = unsent.take_message() {
            outgoing.back(request);
        }
        let why = unsent.into_error();
        if !(lease.used && outgoing.is_whole()) {
            let text = format!("{}: no answer: {}", target.addr, rt::chain(&why));
            return Err(Failure::new(Code::Pu02, text));
        }
    }
}

fn idle_limit(core: &Core, target: &Target) -> Duration {
    target.idle_timeout.unwrap_or(core.shared.config.idle_timeout)
}

/// Waits for `answer`; `None` once neither side has sent anything for `limit`.
async fn unless_silent<T>(
    answer: impl Future<Output = T>,
    limit: Duration,
    progress: Option<&Progress>,
) -> Option<T> {
    let mut answer = std::pin::pin!(answer);
    let moved = || progress.map_or(0, |p| p.moved.load(Relaxed));
    loop {
        let before = moved();
        match timeout(limit, &mut answer).await {
            Ok(answer) => return Some(answer),
            Err(_) if moved() != before => {}
            Err(_) => return None,
        }
    }
}

/// The app's answer as the client gets it.
fn answer(
    core: &Arc<Core>,
    target: &Target,
    ticket: Ticket,
    (mut response, lease): (Response<Incoming>, Lease),
    outgoing: Outgoing,
) -> Result<Response<Body>, Failure> {
    let idle = idle_limit(core, target);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some((protocol, client)) = outgoing.upgrade else {
            let text = "the app changed the protocol unasked";
            return Err(Failure::new(Code::Pu02, text).on(&target.machine.id));
        };
        let app = hyper::upgrade::on(&mut response);
        core.tasks.spawn(tunnel::run(client, app, idle, ticket));
        let (mut head, _) = response.into_parts();
        let named = head.headers.get(header::UPGRADE).cloned().unwrap_or(protocol);
        headers::strip_hop(&mut head.headers);
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(header::UPGRADE, named);
        return Ok(Response::from_parts(head, Body::empty()));
    }
    let (mut head, inner) = response.into_parts();
    headers::strip_hop(&mut head.headers);
    head.version = Version::HTTP_11;
    let idle = Silence::new(idle);
    let body = AppBody { inner, lease: Some(lease), idle, ended: false, ticket };
    Ok(Response::from_parts(head, Body::App(Box::new(body))))
}
