//! Who makes a request: a client with a token, or a machine.

use super::HttpApi;
use super::extract::Params;
use crate::idempotency::RequestId;
use crate::{Error, Kind, Platform};
use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::Method;
use axum::http::request::Parts;
use host_api::Caller;
use model::id::MachineId;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use store::records::TokenRecord;

/// Mark of a request with a valid token.
#[derive(Clone, Debug)]
pub(crate) struct Authenticated(pub(crate) TokenRecord);

/// Mark of a request that came out of a machine.
#[derive(Clone, Debug)]
pub(crate) struct FromMachine(pub(crate) MachineId);

impl FromMachine {
    /// Whether the request may be made without a token. The path is compared as it
    /// was written: whatever is written otherwise is not allowed. That the app in it
    /// is the machine's is seen by the operation, which finds no machine elsewhere.
    pub(super) fn may(&self, request: &Request) -> Result<(), Error> {
        let rest = self.rest_of_own(request.uri().path());
        let is_metadata = |rest: &str| rest == "/metadata" || rest.starts_with("/metadata/");
        match (request.method(), rest) {
            (&Method::GET, Some("")) | (&Method::POST, Some("/suspend")) => Ok(()),
            (_, Some(rest)) if is_metadata(rest) => Ok(()),
            // That there is no such path is no secret.
            _ if request.extensions().get::<MatchedPath>().is_none() => Ok(()),
            _ => {
                let own = format!("/v1/apps/<app>/machines/{}", self.0);
                let why = format!(
                    "without a token a machine may only GET {own}, POST {own}/suspend and use \
                     {own}/metadata: its own state, suspend and labels"
                );
                let hint = "send the header `Authorization: Bearer <token>` for everything else";
                Err(Error::new(Kind::Forbidden, why).hint(hint))
            }
        }
    }

    /// What follows the machine in a path to itself.
    fn rest_of_own<'a>(&self, path: &'a str) -> Option<&'a str> {
        let (_, machine) = path.strip_prefix("/v1/apps/")?.split_once("/machines/")?;
        machine.strip_prefix(&self.0.to_string())
    }
}

/// State of a client's connection, which the listener puts into the extensions of
/// its requests.
#[derive(Clone, Debug, Default)]
pub struct Connection(Arc<AtomicBool>);

impl Connection {
    /// A request on it had a valid token.
    pub fn has_shown_token(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Records that a request on it had a valid token.
    pub fn token_shown(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The platform on behalf of the one who makes the request.
pub(super) struct Acting(pub(super) Platform);

impl FromRequestParts<HttpApi> for Acting {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &HttpApi) -> Result<Self, Infallible> {
        let token = parts.extensions.get::<Authenticated>();
        let machine = parts.extensions.get::<FromMachine>();
        let caller = match (token, machine) {
            (Some(Authenticated(token)), _) => Caller::Token(token.name.clone()),
            (None, Some(FromMachine(machine))) => Caller::Machine(*machine),
            // No request passes the authentication without one of them.
            (None, None) => Caller::Token(String::new()),
        };
        let platform = api.platform.on_behalf_of(caller, lease_nonce(parts));
        let request = parts.extensions.get::<RequestId>().cloned();
        Ok(Self(platform.for_request(request)))
    }
}

/// Header with the nonce of a lease.
const LEASE_NONCE: &str = "fly-machine-lease-nonce";

/// The nonce of the lease that the caller holds: in its header, or in the query, where
/// generated clients put it.
fn lease_nonce(parts: &Parts) -> Option<String> {
    let header = parts.headers.get(LEASE_NONCE).and_then(|nonce| nonce.to_str().ok());
    if let Some(nonce) = header.filter(|nonce| !nonce.is_empty()) {
        return Some(nonce.to_owned());
    }
    // A query that cannot be read is refused where the endpoint reads it.
    let query = Params::of(&parts.uri).ok()?;
    query.get(LEASE_NONCE).or(query.get("nonce")).map(str::to_owned)
}
