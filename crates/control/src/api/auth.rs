//! Who asks: a token in the header, in any of the forms that are about.

use super::guest_api::FromMachine;
use super::{Api, ApiError};
use crate::records::{self, Stored, TokenRecord};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Tokens of one header that are looked up.
const MOST_TOKENS: usize = 8;

/// Lets a request with a valid token pass, and tells the handlers whose it is.
/// One that comes out of a machine may do without for what concerns itself.
pub(super) async fn require(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let machine = request.extensions().get::<FromMachine>();
    if let Some(machine) = machine.filter(|_| header.is_empty()) {
        return match machine.may(&request) {
            Ok(()) => next.run(request).await,
            Err(refusal) => refusal.into_response(),
        };
    }
    match whose(&api, header).await {
        Ok(Some(token)) => {
            request.extensions_mut().insert(token);
            next.run(request).await
        }
        Ok(None) => {
            let why =
                if header.is_empty() { "no token was given" } else { "the token is not valid" };
            ApiError::new(StatusCode::UNAUTHORIZED, format!("unauthorized: {why}"))
                .hint("send the header `Authorization: Bearer <token>`")
                .into_response()
        }
        Err(err) => err.into_response(),
    }
}

async fn whose(api: &Api, header: &str) -> Result<Option<TokenRecord>, ApiError> {
    for token in candidates(header) {
        let sha256 = hash(token);
        let key = records::token_key(&sha256);
        let found: Option<Stored<TokenRecord>> = records::get(api.store(), &key).await?;
        let same =
            |record: &TokenRecord| bool::from(record.sha256.as_bytes().ct_eq(sha256.as_bytes()));
        if let Some(found) = found.filter(|found| same(&found.record)) {
            return Ok(Some(found.record));
        }
    }
    Ok(None)
}

/// What is stored of a token: its SHA-256 in hex.
pub(super) fn hash(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What may be meant by a header: the whole of it without scheme words, then
/// the parts of a comma-separated list (R004, R005).
fn candidates(header: &str) -> Vec<&str> {
    let mut rest = header.trim();
    while let Some((word, tail)) = rest.split_once(char::is_whitespace) {
        if !word.eq_ignore_ascii_case("bearer") && !word.eq_ignore_ascii_case("flyv1") {
            break;
        }
        rest = tail.trim_start();
    }
    let parts = rest.split(',').map(str::trim).filter(|part| *part != rest);
    std::iter::once(rest).chain(parts).filter(|t| !t.is_empty()).take(MOST_TOKENS).collect()
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
        assert_eq!(candidates(&"a,".repeat(1000)).len(), MOST_TOKENS);
    }

    #[test]
    fn a_known_hash() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash("abc"), expected);
    }
}
