//! A request on its way to an app.

use crate::http::code::Code;
use crate::http::failure::Failure;
use crate::http::headers::{self, Origin};
use crate::upstream::request_body::{OutBody, Progress};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri, Version, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A request on its way out; parts are missing once they have been sent.
pub(crate) struct Outgoing {
    head: Option<Parts>,
    body: Option<OutBody>,
    pub(crate) progress: Option<Arc<Progress>>,
    /// It may be sent again even if an app has had it.
    repeatable: bool,
    /// It has been sent again after an app had had it: that is done once.
    repeated: bool,
    pub(crate) upgrade: Option<(HeaderValue, OnUpgrade)>,
}

impl Outgoing {
    pub(crate) fn new(
        mut request: Request<Incoming>,
        origin: &Origin<'_>,
    ) -> Result<Self, Failure> {
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
            let options =
                if head.headers.contains_key(header::TE) { "upgrade, te" } else { "upgrade" };
            head.headers.insert(header::CONNECTION, HeaderValue::from_static(options));
            head.headers.insert(header::UPGRADE, protocol.clone());
        }
        let (body, progress) = OutBody::new(body);
        let repeatable = progress.is_none() && headers::is_idempotent(&head.method);
        Ok(Self {
            head: Some(head),
            body: Some(body),
            progress,
            repeatable,
            repeated: false,
            upgrade,
        })
    }

    /// A message to send; [`Outgoing::restore`] undoes it if it was not.
    pub(crate) fn take(&mut self) -> Option<Request<OutBody>> {
        if self.repeatable {
            return Some(Request::from_parts(self.head.clone()?, OutBody::empty()));
        }
        Some(Request::from_parts(self.head.take()?, self.body.take()?))
    }

    /// The message was not sent.
    pub(crate) fn restore(&mut self, request: Request<OutBody>) {
        let (head, body) = request.into_parts();
        (self.head, self.body) = (Some(head), Some(body));
    }

    /// An app has had it. It may be sent again once, and only if the connection
    /// ended before one byte of an answer: `answered`: there was one.
    pub(crate) fn record_sent(&mut self, answered: bool) {
        if answered || self.repeated {
            self.head = None;
        }
        self.repeated = true;
    }

    /// It has been sent again once already: only a new connection is trusted.
    pub(crate) fn is_repeated(&self) -> bool {
        self.repeated
    }

    /// Nothing of it is lost: it can be sent (again).
    pub(crate) fn can_send(&self) -> bool {
        self.head.is_some()
    }

    /// The client broke its body off, or sent one that is malformed.
    pub(crate) fn client_failed(&self) -> bool {
        self.progress.as_ref().is_some_and(|p| p.failed.load(Relaxed))
    }
}
