//! Authenticates a request by its bearer token, in every form flyctl and the API
//! clients send.

use super::HttpApi;
use super::caller::{Authenticated, Connection, FromMachine};
use crate::{Error, Kind, tokens};
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use store::records::TokenRecord;

/// Tokens of one header that are looked up.
const MAX_TOKENS: usize = 8;

/// Passes a request with a valid token on, with the token's record. One that comes
/// out of a machine needs none for what concerns the machine itself.
pub(super) async fn require(
    State(api): State<HttpApi>,
    mut request: Request,
    next: Next,
) -> Response {
    let header = request.headers().get(header::AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let machine = request.extensions().get::<FromMachine>();
    if let Some(machine) = machine.filter(|_| header.is_empty()) {
        return match machine.may(&request) {
            Ok(()) => next.run(request).await,
            Err(refusal) => refusal.into_response(),
        };
    }
    match authenticate(&api, header).await {
        Ok(token) => {
            if let Some(connection) = request.extensions().get::<Connection>() {
                connection.token_shown();
            }
            request.extensions_mut().insert(Authenticated(token));
            next.run(request).await
        }
        Err(err) => err.into_response(),
    }
}

async fn authenticate(api: &HttpApi, header: &str) -> Result<TokenRecord, Error> {
    for token in candidates(header) {
        if let Some(found) = tokens::find(&api.platform, token).await? {
            return Ok(found);
        }
    }
    let why = if header.is_empty() { "no token was given" } else { "the token is not valid" };
    Err(Error::new(Kind::Unauthorized, format!("unauthorized: {why}"))
        .hint("send the header `Authorization: Bearer <token>`"))
}

/// Possible tokens of a header: the whole of it without scheme words, then the
/// parts of a comma-separated list.
fn candidates(header: &str) -> Vec<&str> {
    let mut rest = header.trim();
    while let Some((word, tail)) = rest.split_once(char::is_whitespace) {
        if !word.eq_ignore_ascii_case("bearer") && !word.eq_ignore_ascii_case("flyv1") {
            break;
        }
        rest = tail.trim_start();
    }
    let parts = rest.split(',').map(str::trim).filter(|part| *part != rest);
    std::iter::once(rest).chain(parts).filter(|t| !t.is_empty()).take(MAX_TOKENS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_the_header() {
        for (header, tokens) in [
            ("", vec![]),
            ("Bearer", vec!["Bearer"]),
            ("Bearer abc", vec!["abc"]),
            ("abc", vec!["abc"]),
            ("FlyV1 fm2_a", vec!["fm2_a"]),
            ("Bearer FlyV1 fm2_a,fm2_b", vec!["fm2_a,fm2_b", "fm2_a", "fm2_b"]),
            ("bearer  flyv1 fm2_a", vec!["fm2_a"]),
            ("Basic abc", vec!["Basic abc"]),
        ] {
            assert_eq!(candidates(header), tokens, "{header}");
        }
        assert_eq!(candidates(&"a,".repeat(1000)).len(), MAX_TOKENS);
    }
}
