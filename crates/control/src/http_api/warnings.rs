//! Warnings of a request: what is accepted but not acted on. They are sent as headers
//! `updraft-warning`, one each.

use super::extract::Params;
use super::openapi;
use crate::error::shortened;
use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::HeaderValue;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

/// Warnings of one answer; more are counted.
const MAX_WARNINGS: usize = 20;
/// Characters of one.
const MAX_TEXT: usize = 400;
const HEADER: &str = "updraft-warning";

/// The warnings of one request. Endpoints and extractors add to them.
#[derive(Clone, Debug, Default)]
pub(super) struct Warnings(Arc<Mutex<Texts>>);

#[derive(Debug, Default)]
struct Texts {
    first: Vec<String>,
    more: usize,
}

impl Warnings {
    pub(super) fn extend(&self, texts: impl IntoIterator<Item = String>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for text in texts {
            if kept.first.len() < MAX_WARNINGS {
                kept.first.push(one_line(&text));
            } else {
                kept.more += 1;
            }
        }
    }

    /// All that there are; none are left.
    pub(super) fn take(&self) -> Vec<String> {
        let Texts { first: mut texts, more } =
            std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        texts.extend((more > 0).then(|| format!("and {more} more warnings")));
        texts
    }
}

impl<S: Sync> FromRequestParts<S> for Warnings {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// Names of fields and parameters are the client's own text.
fn one_line(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Collects the warnings of a request, and warns of parameters that its call does not have.
pub(super) async fn collect(mut request: Request, next: Next) -> Response {
    let warnings = Warnings::default();
    let route = request.extensions().get::<MatchedPath>();
    let known = route.and_then(|route| openapi::parameters(request.method(), route.as_str()));
    // A query that cannot be read is refused by the calls that have parameters.
    if let (Some(known), Ok(query)) = (known, Params::of(request.uri())) {
        let unknown = query.names().filter(|name| !known.has(name));
        warnings.extend(unknown.map(|name| {
            let name = shortened(name, 40);
            format!("query {name}: this call has no such parameter; it is not acted on")
        }));
    }
    request.extensions_mut().insert(warnings.clone());
    let mut response = next.run(request).await;
    for text in warnings.take() {
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            response.headers_mut().append(HEADER, value);
        }
    }
    response
}
