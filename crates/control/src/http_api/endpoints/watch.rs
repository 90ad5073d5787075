//! Events as they happen, as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>). Additions of Updraft.

use crate::http_api::caller::{Acting, TokenEnd};
use crate::http_api::extract::Params;
use crate::watch::{self, News, Scope, WatchItem};
use crate::{Error, Platform};
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde_json::json;
use std::time::Duration;

/// A comment is sent when nothing else has been for this long, so that proxies in between and
/// the client see that the connection lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Bytes of an id that a client may send.
const MAX_ID: usize = 16 * 1024;

/// `GET /v1/orgs/{org}/watch`
pub(in crate::http_api) async fn org(
    Acting(platform): Acting,
    Path(org): Path<String>,
    headers: HeaderMap,
    query: Params,
    end: TokenEnd,
) -> Result<Response, Error> {
    stream(&platform, Scope::Org(&org), &headers, &query, end).await
}

/// `GET /v1/apps/{app}/watch`
pub(in crate::http_api) async fn app(
    Acting(platform): Acting,
    Path(app): Path<String>,
    headers: HeaderMap,
    query: Params,
    end: TokenEnd,
) -> Result<Response, Error> {
    stream(&platform, Scope::App(&app), &headers, &query, end).await
}

/// `GET /v1/apps/{app}/machines/{machine}/events/stream`
pub(in crate::http_api) async fn machine(
    Acting(platform): Acting,
    Path((app, machine)): Path<(String, String)>,
    headers: HeaderMap,
    query: Params,
    end: TokenEnd,
) -> Result<Response, Error> {
    stream(&platform, Scope::Machine(&app, &machine), &headers, &query, end).await
}

async fn stream(
    platform: &Platform,
    scope: Scope<'_>,
    headers: &HeaderMap,
    query: &Params,
    end: TokenEnd,
) -> Result<Response, Error> {
    let header = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?"));
    // A browser's `EventSource` sets the header only when it reconnects.
    let after = header.filter(|id| !id.is_empty()).or_else(|| query.get("last_event_id"));
    if after.is_some_and(|id| id.len() > MAX_ID) {
        return Err(Error::invalid("Last-Event-ID", "is too long"));
    }
    let items = watch::watch(platform, scope, after).await?;
    let events = items.map(|item| as_event(&item)).take_until(Box::pin(end.reached()));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn as_event(item: &WatchItem) -> Result<Event, axum::Error> {
    let event = Event::default().id(&item.id);
    match &item.news {
        News::Event(json) => Ok(event.data(json)),
        // Not dispatched by clients, but its id is kept.
        News::Position => Ok(event),
        News::Gap(host) => event.event("gap").json_data(json!({
            "host": host,
            "message": format!(
                "events of host {host} may be missing before this one: read the machines again"
            ),
        })),
    }
}
