//! Sends a request to a machine, and another one if that fails.

use crate::admission::attempt::RequestAttempt;
use crate::admission::hold::acquire;
use crate::admission::permit::Permit;
use crate::http::body::{AppBody, Body};
use crate::http::code::Code;
use crate::http::failure::Failure;
use crate::http::headers::{self, Origin};
use crate::http::outgoing::Outgoing;
use crate::http::timing::Timestamps;
use crate::http::tunnel::{self, Tunnel};
use crate::listen::connections::OpenRequest;
use crate::shared::Core;
use crate::table::target::Target;
use crate::upstream::pool::Lease;
use crate::upstream::request_body::Progress;
use host_api::Upstream;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use rt::Silence;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, ready};
use std::time::Duration;

/// An app's answer, and whether it is passed on without added headers.
pub(crate) type Answer = (Response<Body>, bool);

/// Sends a request to a machine of `app`, and waits for the head of its answer.
/// `open` is held by the answer if it is a tunnel.
pub(crate) async fn forward(
    core: &Arc<Core>,
    ports: &[u16],
    origin: &Origin<'_>,
    app: &str,
    request: Request<Incoming>,
    open: &OpenRequest,
) -> Result<Answer, Failure> {
    let mut outgoing = Outgoing::new(request, origin)?;
    let mut attempt = RequestAttempt::new();
    let config = &core.shared.config;
    loop {
        let (target, permit) = acquire(core, app, ports, &mut attempt).await?;
        // As it is before: another request may connect while this one fails. It
        // may also go down again; how often it is woken then is limited.
        let is_settling = !target.machine.has_connected(target.machine.boot_epoch());
        match send(core, &target, &mut outgoing, &mut attempt.timestamps).await {
            Ok((response, lease)) => {
                let waited = attempt.timestamps.waits_since().is_some();
                if waited {
                    let began = attempt.timestamps.began;
                    core.shared.metrics.record_wake_stage("first_byte", began.elapsed());
                }
                let pristine = target.pristine;
                let served = (response, lease);
                let mut response = answer(core, &target, permit, served, outgoing, open)?;
                if origin.version == Version::HTTP_2 {
                    core.bodies.watch(response.body_mut());
                }
                if waited && !pristine {
                    add_server_timing(&target, &attempt.timestamps, &mut response);
                }
                return Ok((response, pristine));
            }
            // The edge itself is at its limit, so another machine is no remedy.
            Err(failure) if failure.code == Code::Pl01 => return Err(failure),
            Err(failure) if outgoing.can_send() => {
                let failure = failure.on(target.machine.id);
                if is_settling {
                    attempt.record_not_ready(permit, failure, config)?;
                } else {
                    core.shared.metrics.retries.inc();
                    attempt.record_failure(&target.machine, failure, config.retry_for)?;
                }
            }
            Err(failure) => return Err(failure.on(target.machine.id)),
        }
    }
}

/// Writes into an answer where the time went, if its service wants that.
fn add_server_timing(target: &Target, timestamps: &Timestamps, response: &mut Response<Body>) {
    let Some(host) = &target.timing else { return };
    // It may have waited for one machine and be answered by another, or come
    // when the host's part was over.
    let host = if target.came_up >= timestamps.began { host } else { "" };
    timestamps.write_header(response.headers_mut(), host);
}

/// Sends the request to one machine, over as many idle connections as turn out
/// closed before they took it, and then over a new one.
async fn send(
    core: &Arc<Core>,
    target: &Target,
    outgoing: &mut Outgoing,
    timestamps: &mut Timestamps,
) -> Result<(Response<Incoming>, Lease), Failure> {
    loop {
        let mut lease = connection(core, target, outgoing.is_repeated()).await?;
        if let Some(since) = timestamps.record_connected() {
            core.shared.metrics.record_wake_stage("connect", since);
        }
        lease.progress = outgoing.progress.clone();
        lease.received.clear();
        let Some(request) = outgoing.take() else {
            return Err(Failure::new(Code::Pu02, "the request could not be sent again"));
        };
        let sent = lease.sender.try_send_request(request);
        let idle = idle_limit(core, target);
        let progress = outgoing.progress.as_deref();
        let answered = with_idle_timeout(sent, &mut lease.silence, idle, progress).await;
        let mut unsent = match answered {
            Some(Ok(response)) => return Ok((response, lease)),
            Some(Err(unsent)) => unsent,
            None => {
                // The app has it and may still act on it: never again.
                outgoing.record_sent(true);
                let text = format!("the app sent nothing for {idle:?}");
                return Err(Failure::new(Code::Ur04, text));
            }
        };
        match unsent.take_message() {
            Some(request) => outgoing.restore(request),
            None => outgoing.record_sent(lease.received.any()),
        }
        let why = rt::chain(&unsent.into_error());
        if outgoing.client_failed() {
            let text = format!("the request's body could not be read: {why}");
            return Err(Failure::new(Code::Ur05, text));
        }
        // An idle connection may have been closed by the app at any moment.
        if !(lease.used && outgoing.can_send()) {
            let text = format!("internal port {}: no answer: {why}", target.port);
            return Err(Failure::new(Code::Pu02, text));
        }
    }
}

/// A connection to the machine: an idle one unless it must be `new`.
async fn connection(core: &Arc<Core>, target: &Target, new: bool) -> Result<Lease, Failure> {
    let machine = &target.machine;
    let Some(boot) = target.boot else {
        return Err(Failure::new(Code::Pc03, "the machine's VM has not been announced"));
    };
    let upstream = Upstream { machine: machine.id, boot, port: target.port };
    let share = !target.connection_per_request;
    if share
        && !new
        && let Some(lease) = core.pool.idle_connection(machine, upstream).await
    {
        return Ok(lease);
    }
    let config = &core.shared.config;
    let limits = (config.capacity_timeout, config.connect_timeout);
    let made = core.pool.connect(machine, upstream, share, limits).await;
    made.map_err(|err| Failure::new(err.code, err.why))
}

fn idle_limit(core: &Core, target: &Target) -> Duration {
    target.idle_timeout.unwrap_or(core.shared.config.idle_timeout)
}

/// Waits for `answer`; `None` once neither side has sent anything for `limit`.
async fn with_idle_timeout<T>(
    answer: impl Future<Output = T>,
    silence: &mut Silence,
    limit: Duration,
    progress: Option<&Progress>,
) -> Option<T> {
    let mut answer = std::pin::pin!(answer);
    let moved = || progress.map_or(0, |p| p.moved.load(Relaxed));
    let mut before = moved();
    poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            silence.end();
            return Poll::Ready(Some(answer));
        }
        loop {
            ready!(silence.poll(cx, limit));
            silence.end();
            let now = moved();
            if now == before {
                return Poll::Ready(None);
            }
            before = now;
        }
    })
    .await
}

/// The app's answer as the client gets it.
fn answer(
    core: &Arc<Core>,
    target: &Target,
    permit: Permit,
    (response, lease): (Response<Incoming>, Lease),
    outgoing: Outgoing,
    open: &OpenRequest,
) -> Result<Response<Body>, Failure> {
    let idle = idle_limit(core, target);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let boot_epoch = lease.boot_epoch();
        let machine = target.machine.id;
        let switched = switch_protocols(core, response, outgoing.upgrade, |client, app| {
            let open = open.clone();
            Tunnel { client, app, idle, boot_epoch, permit, open }
        });
        return switched.map_err(|failure| failure.on(machine));
    }
    let (mut head, inner) = response.into_parts();
    headers::from_app(&mut head.headers)
        .map_err(|why| Failure::new(Code::Pu02, why).on(target.machine.id))?;
    head.version = Version::HTTP_11;
    let body = AppBody::new(inner, lease, idle, permit);
    Ok(Response::from_parts(head, Body::app(body)))
}

/// The app changes to the protocol that the client asked for.
fn switch_protocols(
    core: &Core,
    mut response: Response<Incoming>,
    upgrade: Option<(HeaderValue, OnUpgrade)>,
    tunnel: impl FnOnce(OnUpgrade, OnUpgrade) -> Tunnel,
) -> Result<Response<Body>, Failure> {
    let refused = |why: &str| Failure::new(Code::Pu02, why);
    let Some((protocol, client)) = upgrade else {
        return Err(refused("the app changed the protocol without being asked to"));
    };
    let mut named = response.headers().get_all(header::UPGRADE).iter();
    let is_asked_for = |to: &HeaderValue| to.as_bytes().eq_ignore_ascii_case(protocol.as_bytes());
    if !matches!((named.next(), named.next()), (Some(to), None) if is_asked_for(to)) {
        return Err(refused("the app changed to another protocol than the client asked for"));
    }
    let app = hyper::upgrade::on(&mut response);
    // With the client's connections: a tunnel has the time of the drain, too.
    core.clients.spawn(tunnel::run(tunnel(client, app)));
    let (mut head, _) = response.into_parts();
    headers::strip_hop(&mut head.headers);
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(header::UPGRADE, protocol);
    Ok(Response::from_parts(head, Body::empty()))
}
