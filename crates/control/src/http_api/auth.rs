//! Authenticates a request by its bearer tokens, in every form flyctl and the API
//! clients send, and compares what its route needs with what they permit.

use super::audit::{AboutOrg, Audited, PermittedBy, Recorded, Unanswered};
use super::caller::{Authenticated, Connection, FromMachine};
use super::table::Needs;
use super::{HttpApi, caller};
use crate::access::{Need, Place, Subject, authorize};
use crate::apps::{self, Readable};
use crate::tokens::Found;
use crate::{Error, Kind, Platform, tokens};
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Passes a request on whose tokens permit it, with the caller's rights. One that comes
/// out of a machine needs none for what concerns the machine itself.
pub(super) async fn require(
    State((api, needs)): State<(HttpApi, Arc<Needs>)>,
    path: Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    let place = path.ok().as_ref().map(place).unwrap_or_default();
    let matched = request.extensions().get::<MatchedPath>();
    let need = matched.and_then(|matched| needs.of(request.method(), matched.as_str()));
    let admitted = admit(&api, need, &place, &mut request).await;
    let mut audited = Audited::of(&request, need, &place);
    if let Some(audited) = &mut audited {
        audited.prepare(&api).await;
    }
    if let Some(audited) = &audited {
        // For what is denied after the answer, in a session.
        request.extensions_mut().insert(audited.clone());
    }
    let unanswered = Unanswered::new(&api, audited);
    let response = match admitted {
        Ok(()) => next.run(request).await,
        Err(err) => err.into_response(),
    };
    if response.extensions().get::<Recorded>().is_some() {
        unanswered.recorded();
        return response;
    }
    let about = response.extensions().get::<AboutOrg>().cloned();
    unanswered.answered(response.status().as_u16(), about).await;
    response
}

async fn admit(
    api: &HttpApi,
    need: Option<Need>,
    place: &Place,
    request: &mut Request,
) -> Result<(), Error> {
    if need.is_some_and(|need| need.subject == Subject::Open) {
        // Such a call changes nothing that is kept: there is nothing to be done once only.
        request.headers_mut().remove("idempotency-key");
        return Ok(());
    }
    let header = request.headers().get(header::AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let machine = request.extensions().get::<FromMachine>();
    if let Some(from) = machine.filter(|_| header.is_empty()) {
        // That there is no such path is no secret.
        let exists = request.extensions().get::<MatchedPath>().is_some();
        return if exists { from.may(need, request.uri().path()) } else { Ok(()) };
    }
    let tokens = authenticated(&api.platform, &header).await?;
    if let Some(connection) = request.extensions().get::<Connection>() {
        connection.token_shown();
    }
    request.extensions_mut().insert(Authenticated(tokens.as_slice().into()));
    // Without a need the router calls no endpoint: there is no such path or method.
    let Some(need) = need else { return Ok(()) };
    let platform = caller::acting(api, request.extensions(), None).await;
    authorize(&platform, &need, place).await?;
    if let Some(index) = permitting(&platform, &need, place, &tokens).await {
        request.extensions_mut().insert(PermittedBy(index));
    }
    Ok(())
}

/// The valid tokens of a header.
async fn authenticated(platform: &Platform, header: &str) -> Result<Vec<Found>, Error> {
    let tokens = tokens::authenticate(platform, header).await?.map_err(|why| {
        Error::new(Kind::Unauthorized, format!("unauthorized: {}", why.text()))
            .hint("send the header `Authorization: Bearer <token>`")
    })?;
    tokens::note_use(platform, &tokens);
    Ok(tokens)
}

/// The apps that the tokens of a header `Authorization` may read.
pub(super) async fn readable(api: &HttpApi, header: &str) -> Result<Readable, Error> {
    let tokens = authenticated(&api.platform, header).await?;
    apps::readable(&api.platform.with_rights(Found::rights(&tokens))).await
}

/// The first of several tokens that permits the call by itself. `None` if any valid token does,
/// or none alone.
async fn permitting(
    platform: &Platform,
    need: &Need,
    place: &Place,
    tokens: &[Found],
) -> Option<usize> {
    if tokens.len() < 2 || matches!(need.subject, Subject::Token | Subject::Several) {
        return None;
    }
    for (index, token) in tokens.iter().enumerate() {
        let own = platform.with_rights(Found::rights(std::slice::from_ref(token)));
        if authorize(&own, need, place).await.is_ok() {
            return Some(index);
        }
    }
    None
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
