//! Logs of an app: a stream of lines, and pages in the platform's own shape.
//! See <https://fly.io/docs/monitoring/logs-api-options/>.

use crate::http_api::caller::{Acting, TokenEnd};
use crate::http_api::extract::Params;
use crate::{Error, logs};
use axum::Json;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use serde::Serialize;
use std::convert::Infallible;
use std::time::{Duration, UNIX_EPOCH};
use wire::logs::{
    LogAttributes, LogEntry, LogItem, LogMeta, LogOrigin, LogPage, LogPageMeta, LogQuery,
};

/// `GET /v1/apps/{app}/logs`: one [`LogEntry`] per line.
pub(in crate::http_api) async fn stream(
    Acting(platform): Acting,
    Path(app): Path<String>,
    query: Params,
    end: TokenEnd,
) -> Result<Response, Error> {
    let query = LogQuery {
        instance: query.get("instance").map(str::to_owned),
        region: query.get("region").map(str::to_owned),
        after: query.number("after")?,
        tail: query.number("tail")?,
        follow: query.flag("follow")?,
        since_ms: 0,
    };
    let lines = logs::stream(&platform, &app, query).await?;
    Ok(ndjson(lines.take_until(Box::pin(end.reached())).boxed()))
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
    query: Params,
) -> Result<Json<LogPage>, Error> {
    let query = LogQuery {
        instance: query.get("instance").map(str::to_owned),
        region: query.get("region").map(str::to_owned),
        after: query.number("next_token")?,
        ..LogQuery::default()
    };
    let logs::Page { lines, next } = logs::page(&platform, &app, query).await?;
    let next_token = next.map(|next| next.to_string()).unwrap_or_default();
    let data = lines.into_iter().map(log_item).collect();
    Ok(Json(LogPage { data, meta: LogPageMeta { next_token } }))
}

fn log_item(line: LogEntry) -> LogItem {
    let since_epoch = Duration::from_nanos(u64::try_from(line.timestamp).unwrap_or(0));
    LogItem {
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
            },
        },
    }
}
