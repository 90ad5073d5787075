//! An HTTP request. An answer of the class 2xx passes; redirects are not followed
//! (<https://fly.io/docs/reference/health-checks/>).

use super::{ANSWER, Outcome, tls};
use crate::checks::spec::HttpProbe;
use crate::context::HostContext;
use bytes::Bytes;
use host_api::GuestStream;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::fmt::Write;
use std::net::SocketAddrV4;
use tokio::time::{Instant, timeout_at};

/// Bytes of an answer's head, and fields in it.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// Fields whose values are not shown.
const HIDDEN: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];
const USER_AGENT: &str = concat!("updraft-health-check/", env!("CARGO_PKG_VERSION"));

/// The request as it is shown; values that may be secret are left out.
pub(super) fn describe(probe: &HttpProbe, to: SocketAddrV4) -> String {
    let scheme = if probe.tls.is_some() { "https" } else { "http" };
    let mut text = format!("{} {scheme}://{to}{}", probe.method, probe.path);
    for (name, value) in &probe.headers {
        let value = if HIDDEN.contains(&name.as_str()) { "(hidden)" } else { value };
        // Writing to a string does not fail.
        let _ = write!(text, "\n{name}: {value}");
    }
    text
}

/// Sends the request and judges the answer.
pub(super) async fn run(
    host: &HostContext,
    probe: &HttpProbe,
    to: SocketAddrV4,
    deadline: Instant,
) -> Outcome {
    let late = || Outcome::failed(format!("{to}: no answer within the timeout"));
    let request = match request(probe, to) {
        Ok(request) => request,
        Err(why) => return Outcome::failed(why),
    };
    let connect = async {
        let stream = host.connector.connect(to).await;
        let stream = stream.map_err(|err| format!("connect to {to}: {err}"))?;
        match &probe.tls {
            None => Ok(stream),
            Some(options) => tls::connect(stream, options, *to.ip()).await,
        }
    };
    match timeout_at(deadline, connect).await {
        Err(_) => late(),
        Ok(Err(why)) => Outcome::failed(why),
        Ok(Ok(stream)) => match exchange(stream, request, deadline).await {
            Ok(Some(answer)) => answer.judge(),
            Ok(None) => late(),
            Err(err) => Outcome::failed(format!("{to}: {}", rt::chain(&err))),
        },
    }
}

fn request(probe: &HttpProbe, to: SocketAddrV4) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::builder().method(probe.method.as_str()).uri(probe.path.as_str());
    let names_host = probe.headers.iter().any(|(name, _)| name == HOST.as_str());
    if !names_host {
        request = request.header(HOST, to.to_string());
    }
    request = request.header("user-agent", USER_AGENT).header("connection", "close");
    for (name, value) in &probe.headers {
        request = request.header(name, value);
    }
    request.body(Empty::new()).map_err(|err| format!("the request cannot be made: {err}"))
}

/// An answer, as far as it was read.
struct Answer {
    head: Response<()>,
    body: Vec<u8>,
}

/// Sends a request over a connection of its own. `None` if no head has come by the
/// deadline; what has come of the body by then is enough.
async fn exchange(
    stream: Box<dyn GuestStream>,
    request: Request<Empty<Bytes>>,
    deadline: Instant,
) -> Result<Option<Answer>, hyper::Error> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let mut connection = std::pin::pin!(connection);
    let exchange = async {
        let Ok(response) = timeout_at(deadline, sender.send_request(request)).await else {
            return Ok(None);
        };
        let (parts, body) = response?.into_parts();
        let head = Response::from_parts(parts, ());
        Ok(Some(Answer { head, body: begin_of(body, deadline).await }))
    };
    let mut exchange = std::pin::pin!(exchange);
    let done = tokio::select! {
        biased;
        done = &mut exchange => Some(done),
        // The peer has closed it; an answer may have been read already.
        _ = &mut connection => None,
    };
    match done {
        Some(done) => done,
        None => exchange.await,
    }
}

/// The first bytes of a body, as far as they come by the deadline.
async fn begin_of(mut body: Incoming, deadline: Instant) -> Vec<u8> {
    let mut begin = Vec::new();
    while begin.len() < ANSWER {
        let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await else { break };
        if let Ok(data) = frame.into_data() {
            let room = (ANSWER - begin.len()).min(data.len());
            begin.extend_from_slice(&data[..room]);
        }
    }
    begin
}

impl Answer {
    fn judge(self) -> Outcome {
        let status = self.head.status();
        let line = format!("{:?} {status}", self.head.version());
        let mut response = line.clone().into_bytes();
        for (name, value) in self.head.headers() {
            response.push(b'\n');
            response.extend_from_slice(name.as_str().as_bytes());
            response.extend_from_slice(b": ");
            response.extend_from_slice(value.as_bytes());
        }
        response.extend_from_slice(b"\n\n");
        response.extend_from_slice(&self.body);
        let silent = self.body.iter().all(u8::is_ascii_whitespace);
        let output = match (status.is_success(), silent) {
            (_, true) => line.into_bytes(),
            // Clients read roles and the like from it.
            (true, false) => self.body,
            (false, false) => [format!("{line}: ").into_bytes(), self.body].concat(),
        };
        Outcome { passed: status.is_success(), output, response }
    }
}
