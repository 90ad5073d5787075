//! What the audit log records of a request, before and after it is answered.

use super::HttpApi;
use super::caller::{Authenticated, FromMachine, Peer};
use crate::access::{Need, Place};
use crate::{lookup, tokens};
use axum::extract::{MatchedPath, Request};
use axum::http::header;
use macaroon::Action;
use wire::audit::{AuditCaller, AuditEntry};

/// Characters of a client's own texts that are kept.
const MAX_TEXT: usize = 200;

/// Mark of an answer that is about an organization which the path does not name.
#[derive(Clone, Debug)]
pub(super) struct AboutOrg(pub(super) String);

/// A request whose answer may have to be recorded.
#[derive(Debug)]
pub(super) struct Audited {
    entry: AuditEntry,
    place: Place,
    changes: bool,
}

impl Audited {
    /// What is known of a request with valid tokens, or out of a machine. `None` for one that
    /// leads to no endpoint.
    pub(super) fn of(request: &Request, need: Option<Need>, place: &Place) -> Option<Self> {
        let need = need?;
        let extensions = request.extensions();
        let tokens = extensions.get::<Authenticated>();
        let machine = extensions.get::<FromMachine>();
        if tokens.is_none() && machine.is_none() {
            return None;
        }
        let first = tokens.and_then(|Authenticated(tokens)| tokens.first());
        let record = first.map(|found| &found.record);
        let caller = AuditCaller {
            token_id: record.map(tokens::public_id),
            token: record.map(|record| record.name.clone()),
            member: record.and_then(|record| record.member.clone()),
            machine: machine.map(|FromMachine(machine)| machine.to_string()),
        };
        let agent = request.headers().get(header::USER_AGENT);
        let agent = agent.map(|agent| shortened(&String::from_utf8_lossy(agent.as_bytes())));
        let entry = AuditEntry {
            id: String::new(),
            at: String::new(),
            org: None,
            caller,
            method: request.method().to_string(),
            route: extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned())?,
            path: shortened(request.uri().path()),
            status: 0,
            peer: extensions.get::<Peer>().map(|Peer(peer)| peer.to_string()),
            user_agent: agent,
        };
        let changes = need.action.without(Action::READ) != Action::NONE || need.runs_command;
        Some(Self { entry, place: place.clone(), changes })
    }

    /// Finds out which organization the request is about, while that is there.
    pub(super) async fn prepare(&mut self, api: &HttpApi) {
        if self.changes {
            self.find_org(api).await;
        }
    }

    async fn find_org(&mut self, api: &HttpApi) {
        if self.entry.org.is_some() {
            return;
        }
        let platform = &api.platform;
        self.entry.org = match (&self.place.org, &self.place.app) {
            (Some(org), _) => lookup::org(platform, org).await.ok().map(|org| org.slug),
            (None, Some(app)) => lookup::app(platform, app).await.ok().map(|app| app.record.org),
            (None, None) => match self.entry.caller.machine.as_deref().map(str::parse) {
                Some(Ok(machine)) => {
                    lookup::app_of(platform, machine).await.ok().flatten().map(|app| app.org)
                }
                _ => None,
            },
        };
    }

    /// Records the answer, if the request was to change something or was denied.
    pub(super) async fn record(mut self, api: &HttpApi, status: u16, about: Option<AboutOrg>) {
        if !self.changes && status != 403 {
            return;
        }
        if let Some(AboutOrg(org)) = about {
            self.entry.org = Some(org);
        }
        self.find_org(api).await;
        let now_ms = api.platform.clock().now_ms();
        let entry = AuditEntry { status, at: rt::clock::rfc3339(now_ms), ..self.entry };
        api.platform.config().audit.append(entry, now_ms).await;
    }
}

fn shortened(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}
