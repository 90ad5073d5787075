//! Who makes a request: a client with a token, or a machine.

use super::HttpApi;
use super::extract::Params;
use crate::access::Need;
use crate::idempotency::RequestId;
use crate::tokens::Found;
use crate::{Error, Kind, Platform, Rights, lookup, tokens};
use axum::extract::FromRequestParts;
use axum::http::Extensions;
use axum::http::request::Parts;
use host_api::{Caller, GuestListener};
use macaroon::Access;
use model::id::MachineId;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Mark of a request with valid tokens, of which there is at least one.
#[derive(Clone, Debug)]
pub(crate) struct Authenticated(pub(crate) Arc<[Found]>);

/// Mark of a request that came out of a machine.
#[derive(Clone, Debug)]
pub(crate) struct FromMachine {
    pub(crate) machine: MachineId,
    pub(crate) listener: GuestListener,
}

impl FromMachine {
    /// Whether the request may be made without a token: its route permits it to the machine
    /// itself. The machine in the path is compared as it was written: another spelling is not
    /// allowed. That the app in it is the machine's is found out by the operation, which finds
    /// no machine elsewhere.
    pub(super) fn may(&self, need: Option<Need>, path: &str) -> Result<(), Error> {
        if self.listener == GuestListener::Tcp {
            let why = "unauthorized: over TCP a machine needs a token, too";
            let hint = "send the header `Authorization: Bearer <token>`, or connect to the socket \
                        /.fly/api, where a machine may read and suspend itself without one";
            return Err(Error::new(Kind::Unauthorized, why).hint(hint));
        }
        if need.is_some_and(|need| need.by_itself) && self.is_named_by(path) {
            return Ok(());
        }
        let own = format!("/v1/apps/<app>/machines/{}", self.machine);
        let why = format!(
            "without a token a machine may only GET {own}, POST {own}/suspend, use {own}/metadata \
             and {own}/busy, and POST /v1/tokens/oidc: its own state, suspend, labels, busy lease \
             and identity"
        );
        let hint = "send the header `Authorization: Bearer <token>` for everything else";
        Err(Error::new(Kind::Forbidden, why).hint(hint))
    }

    /// Whether a path is of this machine, or of none.
    fn is_named_by(&self, path: &str) -> bool {
        // An app may be named `machines`, too.
        let mut parts = path.split('/').skip(4);
        parts.next() != Some("machines") || parts.next() == Some(self.machine.to_string().as_str())
    }
}

/// Address of the client, which the listener puts into the extensions of its requests.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

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
        let platform = acting(api, &parts.extensions, lease_nonce(parts)).await;
        let request = parts.extensions.get::<RequestId>().cloned();
        Ok(Self(platform.for_request(request)))
    }
}

/// The end of the tokens of a request: the streams that they opened end then.
pub(super) struct TokenEnd(Option<(Platform, Arc<[Found]>)>);

impl FromRequestParts<HttpApi> for TokenEnd {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &HttpApi) -> Result<Self, Infallible> {
        let tokens = parts.extensions.get::<Authenticated>();
        Ok(Self(tokens.map(|Authenticated(tokens)| (api.platform.clone(), tokens.clone()))))
    }
}

impl TokenEnd {
    /// Returns when one of the tokens ends; never if there are none.
    pub(super) async fn reached(self) {
        match self.0 {
            Some((platform, found)) => tokens::until_changed(platform, found).await,
            None => std::future::pending().await,
        }
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

/// The platform on behalf of the caller that the authentication has found.
pub(super) async fn acting(
    api: &HttpApi,
    extensions: &Extensions,
    nonce: Option<String>,
) -> Platform {
    let tokens = extensions.get::<Authenticated>();
    let from = extensions.get::<FromMachine>();
    let machine = from.map(|from| from.machine);
    let itself = from.filter(|from| from.listener == GuestListener::Socket);
    let (caller, rights) = match (tokens, itself.map(|from| from.machine)) {
        (Some(Authenticated(tokens)), _) => {
            let name = tokens.first().map(|token| token.record.name.clone()).unwrap_or_default();
            (Caller::Token(name), Found::rights(tokens))
        }
        (None, Some(machine)) => (Caller::Machine(machine), Rights::Machine(machine)),
        // No request passes the authentication without one of them.
        (None, None) => (Caller::Token(String::new()), Rights::Grants(Arc::default())),
    };
    let needs_source = matches!(rights, Rights::Grants(_));
    let platform = api.platform.on_behalf_of(caller, rights, nonce);
    match machine.filter(|_| needs_source) {
        Some(machine) => platform.coming_from(source(&platform, machine).await),
        None => platform,
    }
}

/// The machine that a request comes out of, for caveats about it.
async fn source(platform: &Platform, machine: MachineId) -> Access {
    let mut access = Access { source_machine: Some(machine.to_string()), ..Access::default() };
    if let Ok(Some(app)) = lookup::app_of(platform, machine).await {
        access.source_app = Some(app.name.to_string());
        access.source_org = Some(app.org);
    }
    access
}
