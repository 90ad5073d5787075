//! Commands in a guest: one answer at the end, or a WebSocket.

use super::body::JsonBody;
use super::{Api, ApiError};
use crate::ports::ExecSession;
use crate::rules;
use axum::Json;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use wire::exec::{ExecControl, ExecEnd, STDERR, STDOUT};
use wire::machines::{ExecMachine, ExecResult};
use wire::worker::{ExecInput, ExecOutput, ExecStart};

/// Output of each kind that is kept.
const MOST_OUTPUT: usize = 1024 * 1024;
/// Time a command may take whose request names none, and the most it may name.
const USUAL_TIME: Duration = Duration::from_secs(300);
const MOST_TIME: Duration = Duration::from_secs(3600);
const CHUNK: usize = 32 * 1024;
const LARGEST_MESSAGE: usize = 1024 * 1024;
/// Time a client has to say what is to be run.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// Time a client has to hear the end and close.
const FAREWELL: Duration = Duration::from_secs(5);

pub(super) async fn run(
    State(api): State<Api>,
    Path((app, machine)): Path<(String, String)>,
    JsonBody(ask): JsonBody<ExecMachine>,
) -> Result<Json<ExecResult>, ApiError> {
    let argv = argv(&ask)?;
    let limit = ask.timeout.filter(|secs| *secs > 0).map_or(USUAL_TIME, Duration::from_secs);
    let start = ExecStart {
        argv,
        timeout_ms: u64::try_from(limit.min(MOST_TIME).as_millis()).ok(),
        ..ExecStart::default()
    };
    let found = api.find(&app, &machine).await?;
    let session = found.host.exec(&found.id, start).await?;
    let stdin = ask.stdin.unwrap_or_default().into_bytes();
    // Both at once: a command may wait for room to write before it reads on.
    let result = tokio::select! {
        result = collect(session.output) => result?,
        never = feed(session.input, stdin) => match never {},
    };
    Ok(Json(result))
}

fn argv(ask: &ExecMachine) -> Result<Vec<String>, ApiError> {
    let container = ask.container.as_deref().is_some_and(|name| !name.is_empty());
    if container && ask.machine == Some(true) {
        return Err(ApiError::invalid("container: cannot be given together with machine"));
    }
    if container {
        let why = "container: containers are not supported yet";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    let line = ask.cmd.as_deref().filter(|line| !line.is_empty());
    let argv = match (&ask.command, line) {
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid("cmd: cannot be given together with command"));
        }
        (Some(argv), None) => argv.clone(),
        (None, line) => rules::split(line.unwrap_or_default())
            .map_err(|why| ApiError::invalid(format!("cmd: {why}")))?,
    };
    check_argv(&argv)?;
    Ok(argv)
}

fn check_argv(argv: &[String]) -> Result<(), ApiError> {
    if argv.first().is_none_or(String::is_empty) {
        return Err(ApiError::invalid("command: is required"));
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(ApiError::invalid("command: must not contain a NUL byte"));
    }
    Ok(())
}

/// Writes all input and its end, then holds the session until it is dropped. A
/// command that does not read its input is no failure.
async fn feed(input: mpsc::Sender<ExecInput>, data: Vec<u8>) -> Infallible {
    let end = std::iter::once(Vec::new());
    for chunk in data.chunks(CHUNK).map(<[u8]>::to_vec).chain(end) {
        if input.send(ExecInput::Data(chunk)).await.is_err() {
            break;
        }
    }
    std::future::pending().await
}

async fn collect(mut output: mpsc::Receiver<ExecOutput>) -> Result<ExecResult, ApiError> {
    let (mut stdout, mut stderr, mut truncated) = (Vec::new(), Vec::new(), false);
    let mut keep = |to: &mut Vec<u8>, data: &[u8]| {
        let room = (MOST_OUTPUT - to.len()).min(data.len());
        to.extend_from_slice(&data[..room]);
        truncated |= room < data.len();
    };
    let (exit_code, exit_signal) = loop {
        match output.recv().await {
            Some(ExecOutput::Stdout(data)) => keep(&mut stdout, &data),
            Some(ExecOutput::Stderr(data)) => keep(&mut stderr, &data),
            Some(ExecOutput::Exited { code, signal }) => break (code, signal),
            Some(ExecOutput::Failed(why)) => {
                return Err(ApiError::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    format!("exec: {why}"),
                ));
            }
            None => return Err(ApiError::internal("exec: the session broke off")),
        }
    };
    let text = |data: Vec<u8>| String::from_utf8_lossy(&data).into_owned();
    let (stdout, stderr) = (text(stdout), text(stderr));
    Ok(ExecResult { exit_code, exit_signal, stdout, stderr, truncated })
}

pub(super) async fn stream(
    State(api): State<Api>,
    Path((app, machine)): Path<(String, String)>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    // Before the upgrade, while there still is an answer to put an error in.
    let found = api.find(&app, &machine).await?;
    let upgrade = upgrade.map_err(|err| ApiError::new(err.status(), err.body_text()))?;
    Ok(upgrade.max_message_size(LARGEST_MESSAGE).on_upgrade(async move |socket| {
        let (mut to_client, mut from_client) = socket.split();
        let session = match first_message(&mut from_client).await {
            Ok(start) => found.host.exec(&found.id, start).await.map_err(|err| err.to_string()),
            Err(why) => Err(why),
        };
        match session {
            Ok(session) => converse(session, to_client, from_client).await,
            Err(why) => drop(to_client.send(end(&ExecEnd::Failed(why))).await),
        }
    }))
}

async fn first_message(from_client: &mut SplitStream<WebSocket>) -> Result<ExecStart, String> {
    let first = timeout(FIRST_MESSAGE, from_client.next()).await;
    let Ok(Some(Ok(Message::Text(text)))) = first else {
        return Err("the first message must be a text that says what to run".into());
    };
    let start: ExecStart =
        serde_json::from_str(&text).map_err(|err| format!("the first message: {err}"))?;
    check_argv(&start.argv).map_err(|err| err.error)?;
    Ok(start)
}

/// Carries both directions until the command ends or the client leaves;
/// leaving drops the session, which kills the command.
async fn converse(
    session: ExecSession,
    to_client: SplitSink<WebSocket, Message>,
    mut from_client: SplitStream<WebSocket>,
) {
    let ExecSession { input, output } = session;
    tokio::select! {
        // The word of the command first: its end makes input moot.
        biased;
        () = speak(output, to_client) => {}
        () = listen(input, &mut from_client) => return,
    }
    // Input that nobody reads would reset the connection under the last word.
    let left = async { while let Some(Ok(_)) = from_client.next().await {} };
    drop(timeout(FAREWELL, left).await);
}

async fn speak(mut output: mpsc::Receiver<ExecOutput>, mut to: SplitSink<WebSocket, Message>) {
    let tagged = |tag: u8, data: &[u8]| Message::Binary([&[tag], data].concat().into());
    while let Some(said) = output.recv().await {
        let (message, last) = match said {
            ExecOutput::Stdout(data) => (tagged(STDOUT, &data), false),
            ExecOutput::Stderr(data) => (tagged(STDERR, &data), false),
            ExecOutput::Exited { code, signal } => (end(&ExecEnd::Exited { code, signal }), true),
            ExecOutput::Failed(why) => (end(&ExecEnd::Failed(why)), true),
        };
        if to.send(message).await.is_err() {
            return;
        }
        if last {
            drop(to.close().await);
            return;
        }
    }
    drop(to.send(end(&ExecEnd::Failed("the session broke off".into()))).await);
}

async fn listen(input: mpsc::Sender<ExecInput>, from: &mut SplitStream<WebSocket>) {
    while let Some(Ok(message)) = from.next().await {
        let said = match message {
            // An empty message is no end of input here: that has its own word.
            Message::Binary(data) if data.is_empty() => continue,
            Message::Binary(data) => ExecInput::Data(data.to_vec()),
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(ExecControl::Resize(size)) => ExecInput::Resize(size),
                Ok(ExecControl::Signal(signal)) => ExecInput::Signal(signal),
                Ok(ExecControl::Eof(true)) => ExecInput::Data(Vec::new()),
                // From a newer client: not for this version.
                Ok(ExecControl::Eof(false)) | Err(_) => continue,
            },
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        if input.send(said).await.is_err() {
            // It no longer reads; what it still says is the other direction's.
            std::future::pending::<()>().await;
        }
    }
}

fn end(end: &ExecEnd) -> Message {
    Message::Text(serde_json::to_string(end).expect("plain data").into())
}
