//! Logs of an app: a stream of lines, and pages in the platform's own shape.
//! See <https://fly.io/docs/monitoring/logs-api-options/>.

use super::log_query::{self, Begin};
use crate::http_api::caller::{Acting, TokenEnd};
use crate::http_api::extract::Params;
use crate::logs::{self, LogItem};
use crate::{Error, Platform};
use axum::Json;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use serde::Serialize;
use std::convert::Infallible;
use std::time::{Duration, UNIX_EPOCH};
use wire::logs::{
    LogAttributes, LogEntry, LogItem as PageItem, LogMeta, LogOrigin, LogPage, LogPageMeta,
    LogQuery,
};

/// A comment is sent when nothing else has been for this long, so that proxies in between and
/// the client see that the connection lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /v1/apps/{app}/logs`: one [`LogEntry`] per line, or per server-sent event if the client
/// accepts those.
pub(in crate::http_api) async fn stream(
    Acting(platform): Acting,
    Path(app): Path<String>,
    headers: HeaderMap,
    params: Params,
    end: TokenEnd,
) -> Result<Response, Error> {
    let begin = log_query::begin(&platform, &headers, &params)?;
    let query = LogQuery { tail: log_query::tail(&params)?, ..log_query::filter(&params)? };
    // An event stream that ends is opened again by its client, so it does not end by itself.
    let events = log_query::accepts_events(&headers);
    let follow = params.has("follow").then(|| params.flag("follow")).transpose()?;
    let query = match &begin {
        // The parameters are still those of the first request.
        Begin::Resume(_) => LogQuery { tail: None, ..query },
        _ => query,
    };
    let query = LogQuery { follow: follow.unwrap_or(events), ..query };
    if events {
        return as_events(&platform, &app, query, begin, end).await;
    }
    let lines = if query.follow {
        let items = logs::follow(&platform, &app, query, begin.place()).await?;
        items.filter_map(|item| std::future::ready(item.line)).boxed()
    } else {
        logs::stream(&platform, &app, query, begin.place()).await?
    };
    Ok(ndjson(lines.take_until(Box::pin(end.reached())).boxed()))
}

async fn as_events(
    platform: &Platform,
    app: &str,
    query: LogQuery,
    begin: Begin,
    end: TokenEnd,
) -> Result<Response, Error> {
    let items = if query.follow {
        logs::follow(platform, app, query, begin.place()).await?
    } else {
        let lines = logs::stream(platform, app, query, begin.place()).await?;
        lines.map(|line| LogItem { place: None, line: Some(line) }).boxed()
    };
    let events = items.map(|item| as_event(&item)).take_until(Box::pin(end.reached()));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn as_event(item: &LogItem) -> Result<Event, axum::Error> {
    let event = match &item.place {
        Some(place) => Event::default().id(place.to_string()),
        None => Event::default(),
    };
    match &item.line {
        Some(line) => event.json_data(line),
        // Not dispatched by clients, but its id is kept.
        None => Ok(event),
    }
}

/// Values as NDJSON, sent as they come.
pub(in crate::http_api) fn ndjson<T: Serialize + Send + 'static>(
    values: BoxStream<'static, T>,
) -> Response {
    let lines = values.map(|value| {
        let mut line = serde_json::to_vec(&value).expect("plain data");
        line.push(b'\n');
        Ok::<_, Infallible>(Bytes::from(line))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(lines)).into_response()
}

/// `GET /api/v1/apps/{app}/logs`: the newest lines, or those after `next_token`.
pub(in crate::http_api) async fn page(
    Acting(platform): Acting,
    Path(app): Path<String>,
    params: Params,
) -> Result<Json<LogPage>, Error> {
    let after = log_query::page_begin(&platform, &params)?;
    let (query, most) = (log_query::filter(&params)?, log_query::limit(&params)?);
    let page = logs::page(&platform, &app, query, after, most).await?;
    let logs::Page { notices, lines, next, .. } = page;
    // Clients ask again as long as pages have lines: a notice is in the first one only.
    let notices = if params.get("next_token").is_none() { notices } else { Vec::new() };
    let next_token = next.map(|next| next.to_string()).unwrap_or_default();
    let data = notices.into_iter().chain(lines).map(log_item).collect();
    Ok(Json(LogPage { data, meta: LogPageMeta { next_token } }))
}

fn log_item(line: LogEntry) -> PageItem {
    let since_epoch = Duration::from_nanos(u64::try_from(line.timestamp).unwrap_or(0));
    PageItem {
        id: format!("{}-{}", line.instance, line.offset),
        kind: "log".into(),
        attributes: LogAttributes {
            timestamp: humantime::format_rfc3339_nanos(UNIX_EPOCH + since_epoch).to_string(),
            message: line.message,
            level: line.level,
            instance: line.instance.clone(),
            region: line.region.clone(),
            meta: LogMeta {
                instance: line.instance,
                region: line.region,
                event: LogOrigin { provider: line.provider },
                container: line.meta.get("container").cloned(),
                process: line.meta.get("process").cloned(),
            },
        },
    }
}
