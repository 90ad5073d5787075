//! A command in a machine, with input, output and terminal, over a WebSocket.
//!
//! The upgrade goes through the same HTTP client as every other call, so that
//! TLS, token, deadlines and error bodies are the same too.

use crate::{Client, Error, SHORT};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use reqwest::{Method, Upgraded, Version};
use serde::Serialize;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::{Message, protocol::Role};
use wire::exec::{ExecControl, ExecEnd, STDERR, STDOUT};
use wire::exec::{ExecInput, ExecOutput, ExecStart};

/// A command that runs in a machine. Dropping it ends the command.
#[derive(Debug)]
pub struct ExecStream {
    /// To the command.
    pub input: ExecSink,
    /// From the command.
    pub output: ExecSource,
}

/// To the command.
#[derive(Debug)]
pub struct ExecSink {
    call: String,
    socket: SplitSink<WebSocketStream<Upgraded>, Message>,
}

/// From the command.
#[derive(Debug)]
pub struct ExecSource {
    call: String,
    socket: SplitStream<WebSocketStream<Upgraded>>,
}

impl Client {
    /// Starts a command in a machine.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn exec_stream(
        &self,
        app: &str,
        id: &str,
        start: &ExecStart,
    ) -> Result<ExecStream, Error> {
        let path = ["v1", "apps", app, "machines", id, "exec", "stream"];
        let mut call = self.call(Method::GET, &path);
        let name = call.name.clone();
        let key = generate_key();
        call.request = call
            .request
            .version(Version::HTTP_11)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", &key);
        let asked = tokio::time::timeout(SHORT, self.send(call)).await;
        let answer = asked.map_err(|elapsed| Error::broken(&name, elapsed))??;
        let accept = answer.headers().get("sec-websocket-accept");
        if accept
            .is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes())
        {
            return Err(Error::answer(&name, "the server does not support WebSocket here"));
        }
        let stream = answer.upgrade().await.map_err(|err| Error::broken(&name, err))?;
        let socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        let (sink, source) = socket.split();
        let mut input = ExecSink { call: name.clone(), socket: sink };
        input.text(start).await?;
        Ok(ExecStream { input, output: ExecSource { call: name, socket: source } })
    }
}

impl ExecSink {
    /// Sends input, a resize or a signal.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, input: ExecInput) -> Result<(), Error> {
        match input {
            ExecInput::Data(data) if data.is_empty() => self.text(&ExecControl::Eof(true)).await,
            ExecInput::Data(data) => self.message(Message::Binary(data.into())).await,
            ExecInput::Resize(size) => self.text(&ExecControl::Resize(size)).await,
            ExecInput::Signal(signal) => self.text(&ExecControl::Signal(signal)).await,
        }
    }

    async fn text<T: Serialize>(&mut self, value: &T) -> Result<(), Error> {
        let json = serde_json::to_string(value).map_err(|err| Error::answer(&self.call, err))?;
        self.message(Message::Text(json.into())).await
    }

    async fn message(&mut self, message: Message) -> Result<(), Error> {
        self.socket.send(message).await.map_err(|err| Error::broken(&self.call, err))
    }
}

impl ExecSource {
    /// The next output; `Exited` or `Failed` is the last. Safe to drop while it
    /// waits.
    ///
    /// # Errors
    /// The connection broke, or the server sent what is not understood.
    pub async fn next(&mut self) -> Result<ExecOutput, Error> {
        loop {
            let Some(message) = self.socket.next().await else {
                return Err(Error::broken(&self.call, "closed before the command ended"));
            };
            match message.map_err(|err| Error::broken(&self.call, err))? {
                Message::Binary(data) => return self.output(&data),
                Message::Text(text) => {
                    let end = serde_json::from_str(&text);
                    return match end.map_err(|err| Error::answer(&self.call, err))? {
                        ExecEnd::Exited { code, signal } => Ok(ExecOutput::Exited { code, signal }),
                        ExecEnd::Failed(body) => Ok(ExecOutput::Failed(body)),
                    };
                }
                // Pings are answered by the library; a close shows as the end.
                _ => {}
            }
        }
    }

    fn output(&self, data: &Bytes) -> Result<ExecOutput, Error> {
        match data.split_first() {
            Some((&STDOUT, rest)) => Ok(ExecOutput::Stdout(rest.to_vec())),
            Some((&STDERR, rest)) => Ok(ExecOutput::Stderr(rest.to_vec())),
            _ => Err(Error::answer(&self.call, "output of an unknown kind")),
        }
    }
}
