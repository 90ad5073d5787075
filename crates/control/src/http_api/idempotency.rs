//! The header `Idempotency-Key`: a write that carries it is carried out once. Its
//! repetition gets the same answer, with `idempotency-replayed: true`.
//!
//! Only success is remembered: a request that was refused, or that found no host, has changed
//! nothing, and its repetition is a new try. After a failure whose effect is not known the
//! repetition finds out what was done.
//!
//! A recorded answer is given before the operation has checked its caller. So it is given to
//! exactly the tokens that the first request was made with: a token that was narrowed since is
//! another caller.

use super::HttpApi;
use super::answer::error_body;
use super::caller::{Authenticated, FromMachine};
use super::extract::read_body;
use crate::idempotency::{self, Begun, Keyed, RequestId, fingerprint};
use crate::tokens::Found;
use crate::{Error, Kind, Platform};
use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Response as HttpResponse, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use std::time::Duration;
use store::records::RecordedAnswer;
use wire::machines::Done;

const KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key.
const MAX_KEY: usize = 255;
/// Largest answer that is remembered; a request with a larger one is carried out again,
/// which finds what was done.
const MAX_ANSWER: u64 = 64 * 1024;
/// Time that a request waits for another one of its key.
const PATIENCE: Duration = Duration::from_secs(180);

/// Carries a write with a key out once.
pub(super) async fn once(State(api): State<HttpApi>, request: Request, next: Next) -> Response {
    let key = request.headers().get(KEY).cloned();
    match key.filter(|_| !request.method().is_safe()) {
        None => next.run(request).await,
        Some(key) => {
            let answered = keyed(&api, &key, request, next).await;
            answered.unwrap_or_else(IntoResponse::into_response)
        }
    }
}

/// What of a request decides how it is finished.
struct Finish {
    request: Keyed,
    method: Method,
    /// An earlier process has begun it.
    unfinished: bool,
    /// Its answer has what the store must not have.
    gives_secret: bool,
}

async fn keyed(
    api: &HttpApi,
    key: &HeaderValue,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let key = check(key)?;
    let caller = Caller::of(&request);
    let id = RequestId::new(&caller.identity, key);
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let is_route = |end: &str| route.as_ref().is_some_and(|route| route.ends_with(end));
    if is_route("/images/import") {
        let why = "cannot be used for an import, which may be repeated without one";
        return Err(Error::invalid("Idempotency-Key", why));
    }
    let (parts, body) = request.into_parts();
    let body = read_body(api, body).await?;
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let fingerprint = fingerprint(key, parts.method.as_str(), path, &body);
    let lock = api.platform.turns().lock_of(&id);
    let turn = tokio::time::timeout(PATIENCE, lock.lock_owned()).await.map_err(|_| {
        let why = "a request with the same idempotency key is still being carried out";
        Error::new(Kind::Conflict, why).hint("try again later")
    })?;
    let keyed = Keyed { id, fingerprint, caller: caller.share };
    let unfinished = match idempotency::begin(&api.platform, &keyed).await? {
        Begun::Answered(answer) => return replay(answer),
        Begun::Unfinished => true,
        Begun::First => false,
    };
    if unfinished && is_route("/exec") {
        let why = "the command may have been carried out before, and is not given a second time";
        return Err(Error::new(Kind::InDoubt, why).hint("see what the machine does"));
    }
    let gives_secret = parts.method == Method::POST && route.as_deref().is_some_and(gives_secret);
    let method = parts.method.clone();
    let finish = Finish { request: keyed, method, unfinished, gives_secret };
    let mut request = Request::from_parts(parts, Body::from(body));
    request.extensions_mut().insert(finish.request.id.clone());
    let own = api.platform.clone();
    let done = async move {
        let response = next.run(request).await;
        let response = finish.record(&own, response).await;
        drop(turn);
        response
    };
    // To its end also when the client goes away: its repetition gets the answer.
    api.platform.run_detached(done).await
}

impl Finish {
    /// Records the answer, if the request has had an effect.
    async fn record(self, platform: &Platform, response: Response) -> Result<Response, Error> {
        let status = response.status();
        let is_gone = self.unfinished && self.method == Method::DELETE;
        let response = match status {
            StatusCode::NOT_FOUND if is_gone => axum::Json(Done { ok: true }).into_response(),
            // Some parts were done. Each has a key of its own, by which it is found.
            StatusCode::MULTI_STATUS => return Ok(response),
            // What was done is not known.
            StatusCode::REQUEST_TIMEOUT => return Ok(response),
            _ if status.is_server_error() && !self.did_nothing(status) => return Ok(response),
            _ if !status.is_success() => {
                if let Err(err) = idempotency::forget(platform, &self.request).await {
                    tracing::warn!(error = %err, "forget a request that was refused");
                }
                return Ok(response);
            }
            _ => response,
        };
        if response.size_hint().exact().is_none_or(|length| length > MAX_ANSWER) {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes());
        let body = body.map_err(|err| Error::internal(format!("read the answer: {err}")))?;
        let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
        let headers = parts.headers.iter();
        let answer = RecordedAnswer {
            status: parts.status.as_u16(),
            headers: headers
                .filter_map(|(name, value)| Some((name.to_string(), text(value)?)))
                .collect(),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        let answer = if self.gives_secret { withheld() } else { answer };
        if let Err(err) = idempotency::finish(platform, &self.request, answer).await {
            // The repetition finds what was done.
            tracing::warn!(error = %err, "record the answer to a request");
        }
        Ok(Response::from_parts(parts, Body::from(body)))
    }

    /// Whether a failure is one before anything was done. A delete is tried again in any case,
    /// and one of its earlier tries may have been carried out.
    fn did_nothing(&self, status: StatusCode) -> bool {
        let before = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::NOT_IMPLEMENTED];
        before.contains(&status) && self.method != Method::DELETE
    }
}

/// Whether the answers of a route have a token, a key or what a key has opened: of tokens the
/// store has hashes only.
fn gives_secret(route: &str) -> bool {
    let is_token = ["/tokens", "/deploy_token", "/tokens/oidc"];
    let is_token = is_token.iter().any(|end| route.ends_with(end));
    // What a command prints may be a secret of its app.
    let prints = route.ends_with("/exec");
    // One of its operations makes tokens.
    let is_graphql = route == "/graphql";
    is_token || prints || is_graphql || route.contains("/secretkeys/")
}

/// What is recorded in place of an answer with a secret.
fn withheld() -> RecordedAnswer {
    let why = "the request was carried out before; its answer is not kept, since it has a secret";
    let refused = Error::new(Kind::Conflict, why).hint("send a new request with a new key");
    RecordedAnswer {
        status: StatusCode::CONFLICT.as_u16(),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: serde_json::to_string(&error_body(refused)).unwrap_or_default(),
    }
}

/// The answer of an earlier request.
fn replay(answer: RecordedAnswer) -> Result<Response, Error> {
    let mut response = HttpResponse::builder().status(answer.status).header(REPLAYED, "true");
    for (name, value) in answer.headers.iter().filter(|(name, _)| name != "content-length") {
        response = response.header(name, value);
    }
    let response = response.body(Body::from(answer.body));
    response.map_err(|err| Error::internal(format!("repeat an answer: {err}")))
}

fn check(key: &HeaderValue) -> Result<&str, Error> {
    let text = key.to_str().unwrap_or_default().trim();
    match (1..=MAX_KEY).contains(&text.len()) {
        true => Ok(text),
        false => {
            let rule = format!("must be 1 to {MAX_KEY} visible ASCII characters");
            Err(Error::invalid("Idempotency-Key", rule))
        }
    }
}

/// The party whose key it is.
struct Caller {
    /// A text that no party with other tokens has.
    identity: String,
    /// Names the party in whose share of the records its requests are counted. Narrowing a
    /// token gives no share of its own.
    share: String,
}

impl Caller {
    fn of(request: &Request) -> Self {
        let extensions = request.extensions();
        match (extensions.get::<Authenticated>(), extensions.get::<FromMachine>()) {
            (Some(Authenticated(tokens)), _) => Self::with(tokens),
            (None, Some(FromMachine { machine, .. })) => {
                let name = format!("machine {machine}");
                Self { identity: name.clone(), share: name }
            }
            (None, None) => Self { identity: String::new(), share: String::new() },
        }
    }

    /// The order in which a client lists its tokens does not matter.
    fn with(tokens: &[Found]) -> Self {
        let mut texts: Vec<&str> = tokens.iter().map(|token| token.presented.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        let first = tokens.iter().map(|token| token.record.sha256.as_str()).min();
        Self {
            identity: format!("tokens {}", texts.join(" ")),
            share: format!("token {}", first.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_secrets_are_known_by_their_routes() {
        for (route, gives) in [
            ("/v1/orgs/{org}/tokens", true),
            ("/v1/apps/{app}/deploy_token", true),
            ("/v1/tokens/oidc", true),
            ("/v1/tokens/authenticate", false),
            ("/v1/apps/{app}/secretkeys/{name}/generate", true),
            ("/v1/apps/{app}/machines/{machine}/exec", true),
            ("/graphql", true),
            ("/v1/apps/{app}/secrets", false),
            ("/v1/apps/{app}/machines", false),
            ("/v1/apps/{app}/machines/{machine}/lease", false),
        ] {
            assert_eq!(gives_secret(route), gives, "{route}");
        }
        assert!(withheld().body.contains("carried out before"));
    }
}
