//! Commands in a guest: one answer at the end, or a WebSocket.

use super::exec_session::{end, first_message, proxy_session};
use crate::http_api::HttpApi;
use crate::http_api::answer::{error_body, status_of};
use crate::http_api::audit::Audited;
use crate::http_api::caller::{Acting, TokenEnd};
use crate::http_api::extract::JsonBody;
use crate::{Error, Kind, exec, machines};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use futures_util::{SinkExt, StreamExt};
use wire::exec::ExecEnd;
use wire::machines::{ExecMachine, ExecResult};

const MAX_MESSAGE: usize = 1024 * 1024;

pub(in crate::http_api) async fn run(
    Acting(platform): Acting,
    Path((app, machine)): Path<(String, String)>,
    JsonBody(ask): JsonBody<ExecMachine>,
) -> Result<Json<ExecResult>, Error> {
    exec::run(&platform, &app, &machine, ask).await.map(Json)
}

pub(in crate::http_api) async fn stream(
    Acting(platform): Acting,
    Path((app, machine)): Path<(String, String)>,
    token_end: TokenEnd,
    State(api): State<HttpApi>,
    audited: Option<Extension<Audited>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Error> {
    // Before the upgrade, while there still is an answer to put an error in.
    machines::get(&platform, &app, &machine, false).await?;
    let upgrade = upgrade.map_err(|err| Error::new(Kind::Invalid, err.body_text()))?;
    Ok(upgrade.max_message_size(MAX_MESSAGE).on_upgrade(async move |socket| {
        let (mut to_client, mut from_client) = socket.split();
        let session = match first_message(&mut from_client).await {
            Ok(start) => exec::open(&platform, &app, &machine, start).await,
            Err(err) => Err(err),
        };
        match session {
            Ok(session) => {
                let ended = Box::pin(token_end.reached());
                proxy_session(session, to_client, from_client, ended).await;
            }
            Err(err) => {
                if let Some(Extension(audited)) = audited.filter(|_| err.kind == Kind::Forbidden) {
                    audited.record(&api, status_of(&err).as_u16(), None).await;
                }
                drop(to_client.send(end(&ExecEnd::Failed(error_body(err)))).await);
            }
        }
    }))
}
