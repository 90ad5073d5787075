//! Authenticates a request by its bearer tokens, in every form flyctl and the API
//! clients send, and compares what its route needs with what they permit.

use super::caller::{Authenticated, Connection, FromMachine};
use super::table::Needs;
use super::{HttpApi, caller};
use crate::access::{Place, authorize};
use crate::tokens::{self, Found, Invalid};
use crate::{Error, Kind};
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Tokens of one header that are looked up.
const MAX_TOKENS: usize = 8;

/// Passes a request on whose tokens permit it, with the caller's rights. One that comes
/// out of a machine needs none for what concerns the machine itself.
pub(super) async fn require(
    State((api, needs)): State<(HttpApi, Arc<Needs>)>,
    path: Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    match admit(&api, &needs, path.ok().as_ref(), &mut request).await {
        Ok(()) => next.run(request).await,
        Err(err) => err.into_response(),
    }
}

async fn admit(
    api: &HttpApi,
    needs: &Needs,
    path: Option<&RawPathParams>,
    request: &mut Request,
) -> Result<(), Error> {
    let header = request.headers().get(header::AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let machine = request.extensions().get::<FromMachine>();
    let matched = request.extensions().get::<MatchedPath>();
    let need = matched.and_then(|matched| needs.of(request.method(), matched.as_str()));
    if let Some(machine) = machine.filter(|_| header.is_empty()) {
        // That there is no such path is no secret.
        return if matched.is_none() { Ok(()) } else { machine.may(need, request.uri().path()) };
    }
    let tokens = authenticate(api, &header).await?;
    tokens::note_use(&api.platform, &tokens);
    if let Some(connection) = request.extensions().get::<Connection>() {
        connection.token_shown();
    }
    request.extensions_mut().insert(Authenticated(tokens.into()));
    // Without a need the router calls no endpoint: there is no such path or method.
    let Some(need) = need else { return Ok(()) };
    let platform = caller::acting(api, request.extensions(), None).await;
    authorize(&platform, &need, &path.map(place).unwrap_or_default()).await
}

/// The parts of the path that name the subject of the call.
fn place(path: &RawPathParams) -> Place {
    let mut place = Place::default();
    for (name, value) in path {
        let part = match name {
            "org" => &mut place.org,
            "app" => &mut place.app,
            "machine" => &mut place.machine,
            "volume" => &mut place.volume,
            _ => continue,
        };
        *part = Some(value.to_owned());
    }
    place
}

/// All valid tokens of a header, of which there is at least one.
async fn authenticate(api: &HttpApi, header: &str) -> Result<Vec<Found>, Error> {
    let (mut found, mut expired) = (Vec::new(), false);
    for token in candidates(header) {
        match tokens::find(&api.platform, token).await? {
            Ok(token) => found.push(token),
            Err(Invalid::Expired) => expired = true,
            Err(Invalid::Unknown) => {}
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let why = match (header.is_empty(), expired) {
        (true, _) => "no token was given",
        (_, true) => "the token has expired",
        _ => "the token is not valid",
    };
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
