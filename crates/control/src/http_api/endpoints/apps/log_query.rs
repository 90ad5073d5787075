//! Parameters of the calls for logs: each is used, or refused by its name.

use crate::http_api::extract::Params;
use crate::logs::Place;
use crate::{Error, Platform};
use axum::http::{HeaderMap, header};
use model::id::RegionCode;
use std::time::Duration;
use wire::logs::{LOG_LEVELS, LogQuery};

/// Lines that a client may ask for.
const MAX_LINES: u32 = 10_000;
/// Bytes of the text that is searched for.
const MAX_TEXT: usize = 1024;
/// Bytes of a place that a client may send.
const MAX_PLACE: usize = 32 * 1024;

/// Where lines begin.
pub(super) enum Begin {
    /// With the newest ones.
    Newest,
    /// After a time.
    After(i64),
    /// Where an earlier stream ended.
    Resume(Place),
}

impl Begin {
    pub(super) fn place(self) -> Option<Place> {
        match self {
            Self::Newest => None,
            Self::After(time) => Some(Place::Time(time)),
            Self::Resume(place) => Some(place),
        }
    }
}

pub(super) fn accepts_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter();
    let mut kinds = accepted.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    kinds.any(|kind| kind.split(';').next().unwrap_or_default().trim() == "text/event-stream")
}

/// `Last-Event-ID`, or `since`, or `after`.
pub(super) fn begin(
    platform: &Platform,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Begin, Error> {
    // A browser's `EventSource` sets the header only when it reconnects.
    let header = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?"));
    if let Some(id) = header.filter(|id| !id.is_empty()).or_else(|| params.get("last_event_id")) {
        return place("Last-Event-ID", id).map(Begin::Resume);
    }
    let after = params.number("after")?;
    match (after, since(platform, params)?) {
        (Some(_), Some(_)) => Err(Error::invalid("since", "excludes after: give one of them")),
        (time, since) => Ok(time.or(since).map_or(Begin::Newest, Begin::After)),
    }
}

/// `next_token`, or `since`.
pub(super) fn page_begin(platform: &Platform, params: &Params) -> Result<Option<Place>, Error> {
    // Clients send `since` with each of their requests: the token is newer.
    let since = since(platform, params)?;
    match params.get("next_token") {
        Some(token) => place("next_token", token).map(Some),
        None => Ok(since.map(Place::Time)),
    }
}

fn place(field: &str, text: &str) -> Result<Place, Error> {
    if text.len() > MAX_PLACE {
        return Err(Error::invalid(field, "is too long"));
    }
    text.parse().map_err(|rule: &str| Error::invalid(field, rule))
}

/// The time before which no line is wanted.
fn since(platform: &Platform, params: &Params) -> Result<Option<i64>, Error> {
    let Some(text) = params.get("since") else { return Ok(None) };
    let rule = "must be how long ago, such as 15m, 2h or 7d, or a time such as \
                2026-11-29T10:00:00Z";
    let ago = |length: Duration| {
        let length = i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
        platform.clock().now_ns().saturating_sub(length)
    };
    let at = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    let length = humantime::parse_duration(text).ok().map(ago);
    let since = length.or_else(|| rt::clock::parse_rfc3339(text).map(at));
    let since = since.ok_or_else(|| Error::invalid("since", rule))?;
    // Lines of that very moment are wanted.
    Ok(Some(since.saturating_sub(1).max(0)))
}

/// Which lines are wanted, whatever their time.
pub(super) fn filter(params: &Params) -> Result<LogQuery, Error> {
    let q = params.get("q").map(str::to_owned);
    if q.as_ref().is_some_and(|q| q.len() > MAX_TEXT) {
        return Err(Error::invalid("q", format!("must be at most {MAX_TEXT} bytes")));
    }
    let region = params.get("region").map(str::parse::<RegionCode>).transpose();
    let region = region.map_err(|err| Error::invalid("region", err.to_string()))?;
    Ok(LogQuery {
        instance: params.get("instance").map(str::to_owned),
        region: region.map(|region| region.to_string()),
        q,
        levels: levels(params)?,
        ..LogQuery::default()
    })
}

fn levels(params: &Params) -> Result<Vec<String>, Error> {
    let mut levels = params.list("level");
    for level in &mut levels {
        level.make_ascii_lowercase();
        if level == "warning" {
            *level = "warn".into();
        }
        if !LOG_LEVELS.contains(&level.as_str()) {
            let rule = format!("must be of {}", LOG_LEVELS.join(", "));
            return Err(Error::invalid("level", rule));
        }
    }
    levels.sort_unstable();
    levels.dedup();
    Ok(levels)
}

/// Newest lines to begin with.
pub(super) fn tail(params: &Params) -> Result<Option<u32>, Error> {
    let tail = params.number("tail")?;
    if tail.is_some_and(|tail| tail > MAX_LINES) {
        return Err(Error::invalid("tail", format!("must be 0 to {MAX_LINES}")));
    }
    Ok(tail)
}

/// Lines of a page.
pub(super) fn limit(params: &Params) -> Result<Option<usize>, Error> {
    let limit: Option<u32> = params.number("limit")?;
    if limit.is_some_and(|limit| !(1..=MAX_LINES).contains(&limit)) {
        return Err(Error::invalid("limit", format!("must be 1 to {MAX_LINES}")));
    }
    Ok(limit.map(|limit| limit as usize))
}
