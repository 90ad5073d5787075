//! Rate limits of Fly's Machines API, off by default (`api.rate_limits`): per caller, action and
//! machine or app (<https://fly.io/docs/machines/api/working-with-machines-api/#rate-limits>).
//! `buckets` counts, this file maps requests to what is counted.

mod buckets;

use super::HttpApi;
use super::caller::{Authenticated, FromMachine};
use crate::{Error, Kind};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
pub(super) use buckets::Buckets;
use buckets::{Rate, Taken};
use model::id::MachineId;
use tokio::time::Instant;

/// Every action but those below: 1 request a second, 3 at once.
const ACTION: Rate = Rate { per_minute: 60, burst: 3 };
/// Reading one machine.
const GET_MACHINE: Rate = Rate { per_minute: 300, burst: 10 };
/// Deletions of apps, all of a caller together.
const DELETE_APP: Rate = Rate { per_minute: 100, burst: 100 };

/// The parameters of a path, decoded.
type Params = Result<RawPathParams, RawPathParamsRejection>;

const MACHINE: &str = "/v1/apps/{app}/machines/{machine}";
const APP: &str = "/v1/apps/{app}";

/// Refuses what is beyond the limits, if they are on, and shows them in each answer.
pub(super) async fn limit(
    State(api): State<HttpApi>,
    path: Params,
    request: Request,
    next: Next,
) -> Response {
    let Some(buckets) = &api.buckets else { return next.run(request).await };
    let subject = path.as_ref().map(subject).unwrap_or_default();
    let Some((key, rate)) = counted(&request, &subject) else { return next.run(request).await };
    let taken = buckets.take(key, rate, Instant::now());
    let mut response = match taken.allowed {
        true => next.run(request).await,
        false => refusal(rate, &taken),
    };
    show(response.headers_mut(), rate, &taken);
    response
}

/// The bucket that a request takes from; `None` for paths that do not exist.
fn counted(request: &Request, subject: &str) -> Option<(String, Rate)> {
    // The limits are those of the Machines API.
    let route = request.extensions().get::<MatchedPath>()?.as_str();
    let route = Some(route).filter(|route| *route != "/graphql")?;
    let extensions = request.extensions();
    let caller = match (extensions.get::<Authenticated>(), extensions.get::<FromMachine>()) {
        (Some(Authenticated(tokens)), _) => {
            tokens.first().map(|token| token.record.sha256.clone()).unwrap_or_default()
        }
        (None, Some(FromMachine { machine, .. })) => machine.to_string(),
        (None, None) => return None,
    };
    let method = request.method();
    // `nest` matches with and without a slash at the end.
    let rate = match (method, route.trim_end_matches('/')) {
        (&Method::DELETE, APP) => return Some((format!("{caller} {method} {APP}"), DELETE_APP)),
        (&Method::GET, MACHINE) => GET_MACHINE,
        _ => ACTION,
    };
    Some((format!("{caller} {method} {route} {subject}"), rate))
}

/// The machine, else the app, that a path is about. Other spellings of it are the same.
fn subject<'a>(path: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let (mut app, mut machine) = (None, None);
    for (name, value) in path {
        match name {
            "app" => app = Some(value),
            "machine" => machine = Some(value),
            _ => {}
        }
    }
    let id = machine.and_then(|machine| machine.parse::<MachineId>().ok());
    let text = || machine.or(app).unwrap_or_default().to_owned();
    id.map_or_else(text, |id| id.to_string())
}

fn refusal(rate: Rate, taken: &Taken) -> Response {
    let wait = taken.wait_secs;
    let why = format!(
        "rate limit: {} requests a minute, {} at once, for this action on this machine or app",
        rate.per_minute, rate.burst
    );
    let refused = Error::new(Kind::Busy, why);
    let refused = refused.hint(format!("try again in {wait} s (header retry-after)"));
    let mut response = refused.into_response();
    set(response.headers_mut(), header::RETRY_AFTER, wait);
    response
}

fn show(headers: &mut HeaderMap, rate: Rate, taken: &Taken) {
    set(headers, HeaderName::from_static("ratelimit-limit"), u64::from(rate.burst));
    set(headers, HeaderName::from_static("ratelimit-remaining"), u64::from(taken.remaining));
    set(headers, HeaderName::from_static("ratelimit-reset"), taken.reset_secs);
}

fn set(headers: &mut HeaderMap, name: HeaderName, number: u64) {
    headers.insert(name, HeaderValue::from(number));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_of_a_path() {
        let id = MachineId::from_random(7).to_string();
        let (app, machine) = (("app", "web"), ("machine", id.as_str()));
        assert_eq!(subject([app, machine]), id);
        assert_eq!(subject([app, ("machine", "x")]), "x");
        assert_eq!(subject([app, ("name", "x")]), "web");
        assert_eq!(subject([]), "");
    }
}
