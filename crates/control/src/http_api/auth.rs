//! Authenticates a request by its bearer tokens, in every form flyctl and the API
//! clients send, and compares what its route needs with what they permit.

use super::audit::{AboutOrg, Audited};
use super::caller::{Authenticated, Connection, FromMachine};
use super::table::Needs;
use super::{HttpApi, caller};
use crate::access::{Need, Place, Subject, authorize};
use crate::{Error, Kind, tokens};
use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
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
    let again = repeatable(&request);
    let mut audited = Audited::of(&request, need, &place);
    if let Some(audited) = &mut audited {
        audited.prepare(&api).await;
    }
    let response = match admitted {
        Ok(()) => {
            let response = next.run(request).await;
            match again.filter(|_| is_stream(&response)) {
                Some(again) => until_refused(api.clone(), (need, place), again, response),
                None => response,
            }
        }
        Err(err) => err.into_response(),
    };
    if let Some(audited) = audited {
        let about = response.extensions().get::<AboutOrg>().cloned();
        audited.record(&api, response.status().as_u16(), about).await;
    }
    response
}

/// What [`admit`] needs of a read, to look at it again.
fn repeatable(request: &Request) -> Option<Request> {
    if request.method() != Method::GET {
        return None;
    }
    let mut again = Request::new(Body::empty());
    *again.uri_mut() = request.uri().clone();
    let token = request.headers().get(header::AUTHORIZATION).cloned();
    again.headers_mut().extend(token.map(|token| (header::AUTHORIZATION, token)));
    if let Some(machine) = request.extensions().get::<FromMachine>() {
        again.extensions_mut().insert(machine.clone());
    }
    if let Some(matched) = request.extensions().get::<MatchedPath>() {
        again.extensions_mut().insert(matched.clone());
    }
    Some(again)
}

fn is_stream(response: &Response) -> bool {
    response.status().is_success() && response.body().size_hint().exact().is_none()
}

/// A stream ends once its request would be refused: its tokens have expired or were revoked, or
/// permit less.
fn until_refused(
    api: HttpApi,
    (need, place): (Option<Need>, Place),
    mut request: Request,
    response: Response,
) -> Response {
    let refused = async move {
        loop {
            tokio::time::sleep(api.config.recheck).await;
            let admitted = admit(&api, need, &place, &mut request).await;
            // The store may fail for a while.
            let refusals = [Kind::Unauthorized, Kind::Forbidden];
            if admitted.is_err_and(|err| refusals.contains(&err.kind)) {
                return;
            }
        }
    };
    let (parts, body) = response.into_parts();
    let body = body.into_data_stream().take_until(Box::pin(refused));
    Response::from_parts(parts, Body::from_stream(body))
}

async fn admit(
    api: &HttpApi,
    need: Option<Need>,
    place: &Place,
    request: &mut Request,
) -> Result<(), Error> {
    if need.is_some_and(|need| need.subject == Subject::Open) {
        return Ok(());
    }
    let header = request.headers().get(header::AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let machine = request.extensions().get::<FromMachine>();
    if let Some(machine) = machine.filter(|_| header.is_empty()) {
        // That there is no such path is no secret.
        let exists = request.extensions().get::<MatchedPath>().is_some();
        return if exists { machine.may(need, request.uri().path()) } else { Ok(()) };
    }
    let tokens = tokens::authenticate(&api.platform, &header).await?.map_err(|why| {
        Error::new(Kind::Unauthorized, format!("unauthorized: {}", why.text()))
            .hint("send the header `Authorization: Bearer <token>`")
    })?;
    tokens::note_use(&api.platform, &tokens);
    if let Some(connection) = request.extensions().get::<Connection>() {
        connection.token_shown();
    }
    request.extensions_mut().insert(Authenticated(tokens.into()));
    // Without a need the router calls no endpoint: there is no such path or method.
    let Some(need) = need else { return Ok(()) };
    let platform = caller::acting(api, request.extensions(), None).await;
    authorize(&platform, &need, place).await
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
