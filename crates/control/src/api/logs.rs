//! Logs of an app: a stream of lines, and pages in the platform's own shape.

use super::query::Params;
use super::{Api, ApiError};
use crate::records::{self, AppRecord, OwnedRecord, Stored};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde::Serialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use wire::logs::{LogEntry, LogQuery};

/// Lines to begin with when nothing else is asked for.
const USUAL_TAIL: u32 = 100;
const MOST_TAIL: u32 = 10_000;

/// `GET /v1/apps/{app}/logs`: one [`LogEntry`] per line.
pub(super) async fn stream(
    State(api): State<Api>,
    Path(app): Path<String>,
    query: Params,
) -> Result<Response, ApiError> {
    let after = query.number("after")?;
    let tail: Option<u32> = query.number("tail")?;
    let tail = tail.or(after.is_none().then_some(USUAL_TAIL)).unwrap_or(MOST_TAIL);
    let query = LogQuery {
        instance: query.get("instance").map(str::to_owned),
        region: query.get("region").map(str::to_owned),
        after,
        tail: Some(tail.min(MOST_TAIL)),
        follow: query.flag("follow")?,
        since_ms: 0,
    };
    Ok(ndjson(api.lines(&app, query).await?))
}

/// Values as NDJSON, sent as they come.
pub(super) fn ndjson<T: Serialize + Send + 'static>(values: BoxStream<'static, T>) -> Response {
    let lines = values.map(|value| {
        let mut line = serde_json::to_vec(&value).expect("plain data");
        line.push(b'\n');
        Ok::<_, Infallible>(Bytes::from(line))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(lines)).into_response()
}

impl Api {
    /// Lines of an app from all hosts; oldest first, as far as they are not
    /// followed. `instance` may be a name.
    async fn lines(
        &self,
        app: &str,
        mut query: LogQuery,
    ) -> Result<BoxStream<'static, LogEntry>, ApiError> {
        let record = self.app(app).await?.record;
        query.since_ms = self.first_machine(&record).await?;
        let app = record.name;
        if let Some(machine) = query.instance.take() {
            query.instance = Some(self.find(&app, &machine).await?.id);
        }
        let hosts = self.world.hosts.all();
        let asked = hosts.iter().map(|(_, host)| host.logs(&app, query.clone()));
        let mut streams = futures_util::future::try_join_all(asked).await?;
        if streams.len() <= 1 || query.follow {
            return Ok(match streams.pop() {
                Some(only) if streams.is_empty() => only,
                Some(last) => stream::select_all(streams.into_iter().chain([last])).boxed(),
                None => stream::empty().boxed(),
            });
        }
        let mut lines: Vec<LogEntry> = stream::iter(streams).flatten().collect().await;
        lines.sort_by_key(|line| line.timestamp);
        let tail = query.tail.map_or(lines.len(), |tail| tail as usize);
        let old = lines.len().saturating_sub(tail);
        Ok(stream::iter(lines.into_iter().skip(old)).boxed())
    }
}

impl Api {
    /// No machine of the app is older, also if the clock was set back since the
    /// app was made: then its machines' claims are older than itself.
    async fn first_machine(&self, app: &AppRecord) -> Result<u64, ApiError> {
        let owned: Vec<Stored<OwnedRecord>> =
            records::list(self.store(), records::MACHINES).await?;
        let of_app = owned.iter().map(|owned| &owned.record).filter(|o| o.app == app.name);
        Ok(of_app.map(|owned| owned.claimed_ms).fold(app.created_ms, u64::min))
    }
}

/// `GET /api/v1/apps/{app}/logs` (O004): the newest lines, or those after
/// `next_token`.
pub(super) async fn page(
    State(api): State<Api>,
    Path(app): Path<String>,
    query: Params,
) -> Result<Json<Value>, ApiError> {
    let after: Option<i64> = query.number("next_token")?;
    let query = LogQuery {
        instance: query.get("instance").map(str::to_owned),
        region: query.get("region").map(str::to_owned),
        after,
        tail: Some(if after.is_some() { MOST_TAIL } else { USUAL_TAIL }),
        follow: false,
        since_ms: 0,
    };
    let lines: Vec<LogEntry> = api.lines(&app, query).await?.collect().await;
    let newest = lines.iter().map(|line| line.timestamp).max().or(after);
    let token = newest.map(|token| token.to_string()).unwrap_or_default();
    let data: Vec<Value> = lines.iter().map(log_object).collect();
    Ok(Json(json!({ "data": data, "meta": { "next_token": token } })))
}

fn log_object(line: &LogEntry) -> Value {
    let ms = u64::try_from(line.timestamp / 1_000_000).unwrap_or(0);
    json!({
        "id": format!("{}-{}", line.instance, line.offset),
        "type": "log",
        "attributes": {
            "timestamp": rt::clock::rfc3339(ms),
            "message": line.message,
            "level": line.level,
            "instance": line.instance,
            "region": line.region,
            "meta": {
                "instance": line.instance,
                "region": line.region,
                "event": { "provider": line.provider },
            },
        },
    })
}
