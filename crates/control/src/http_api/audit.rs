//! What the audit log records of a request, before and after it is answered.

use super::HttpApi;
use super::caller::{Authenticated, FromMachine, Peer};
use crate::access::{Need, Place};
use crate::{lookup, tokens};
use axum::extract::{MatchedPath, Request};
use axum::http::header;
use macaroon::Action;
use tokio::runtime::Handle;
use wire::audit::{AuditCaller, AuditEntry};

/// Characters of a client's own texts that are kept.
const MAX_TEXT: usize = 200;

/// Status of a call whose client left before the answer, as nginx logs it.
const CLIENT_LEFT: u16 = 499;

/// Mark of a request with several tokens of which one, by its index, permits the call.
#[derive(Clone, Copy, Debug)]
pub(super) struct PermittedBy(pub(super) usize);

/// Mark of an answer that is about an organization which the path does not name.
#[derive(Clone, Debug)]
pub(super) struct AboutOrg(pub(super) String);

/// Mark of an answer that has been recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recorded;

/// A request whose answer may have to be recorded.
#[derive(Clone, Debug)]
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
        let all = tokens.map(|Authenticated(tokens)| &**tokens).unwrap_or_default();
        let by = extensions.get::<PermittedBy>().and_then(|PermittedBy(index)| all.get(*index));
        let callers = by.map_or(all, std::slice::from_ref);
        let caller = AuditCaller {
            token_id: joined(callers.iter().map(|found| tokens::public_id(&found.record))),
            token: joined(callers.iter().map(|found| found.record.name.clone())),
            member: joined(callers.iter().filter_map(|found| found.record.member.clone())),
            machine: machine.map(|from| from.machine.to_string()),
        };
        let agent = request.headers().get(header::USER_AGENT);
        let agent = agent.map(|agent| shortened(&String::from_utf8_lossy(agent.as_bytes())));
        let entry = AuditEntry {
            id: String::new(),
            at: String::new(),
            org: None,
            org_id: None,
            count: None,
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

    /// The same of a request whose body, and not its route, has what is to be changed: these
    /// operations.
    pub(super) fn with_operations(mut self, operations: &str) -> Self {
        self.entry.path = shortened(&format!("{} {operations}", self.entry.path));
        Self { changes: true, ..self }
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
        let slug = match (&self.place.org, &self.place.app) {
            (Some(org), _) => Some(org.clone()),
            (None, Some(app)) => lookup::app(platform, app).await.ok().map(|app| app.record.org),
            (None, None) => match self.entry.caller.machine.as_deref().map(str::parse) {
                Some(Ok(machine)) => {
                    lookup::app_of(platform, machine).await.ok().flatten().map(|app| app.org)
                }
                _ => None,
            },
        };
        let Some(slug) = slug else { return };
        let org = lookup::org(platform, &slug).await.ok();
        self.entry.org_id = org.as_ref().map(|org| org.id.0);
        self.entry.org = org.map(|org| org.slug);
    }

    /// Whether a call with this answer is recorded: it was to change something, or was denied.
    fn is_recorded(&self, status: u16) -> bool {
        self.changes || status == 403
    }

    /// Records the answer, unless calls such as this are not recorded.
    pub(super) async fn record(mut self, api: &HttpApi, status: u16, about: Option<AboutOrg>) {
        if !self.is_recorded(status) {
            return;
        }
        if let Some(AboutOrg(org)) = about {
            (self.entry.org, self.place.org) = (None, Some(org));
        }
        self.find_org(api).await;
        let now_ms = api.platform.clock().now_ms();
        let entry = AuditEntry { status, at: rt::clock::rfc3339(now_ms), ..self.entry };
        api.platform.config().audit.append(entry, now_ms).await;
    }
}

/// A call that is not answered yet. If the client leaves before, which ends the call's task, it
/// is recorded all the same: the change may have been made.
pub(super) struct Unanswered {
    api: HttpApi,
    audited: Option<Audited>,
}

impl Unanswered {
    pub(super) fn new(api: &HttpApi, audited: Option<Audited>) -> Self {
        Self { api: api.clone(), audited }
    }

    /// The answer has been recorded.
    pub(super) fn recorded(mut self) {
        self.audited = None;
    }

    /// Records the answer, also if the client leaves meanwhile.
    pub(super) async fn answered(mut self, status: u16, about: Option<AboutOrg>) {
        let audited = self.audited.take().filter(|audited| audited.is_recorded(status));
        let Some(audited) = audited else { return };
        let api = self.api.clone();
        let record = async move { audited.record(&api, status, about).await };
        if let Err(err) = self.api.platform.tasks().spawn(record).await {
            tracing::error!(error = %err, "record a call in the audit log");
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        // Without a runtime the whole process is at its end.
        if let Some(audited) = self.audited.take().filter(|_| Handle::try_current().is_ok()) {
            let api = self.api.clone();
            let record = async move { audited.record(&api, CLIENT_LEFT, None).await };
            drop(self.api.platform.tasks().spawn(record));
        }
    }
}

fn joined(parts: impl Iterator<Item = String>) -> Option<String> {
    let mut parts: Vec<String> = parts.collect();
    parts.dedup();
    (!parts.is_empty()).then(|| parts.join(","))
}

fn shortened(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}
