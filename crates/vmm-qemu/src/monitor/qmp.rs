//! QEMU's monitor protocol: one JSON object per line, requests answered in
//! order, events in between.
//!
//! QEMU may be controlled by its guest: lines are bounded,
//! and its messages concern its own VM only.

use futures_util::{SinkExt, StreamExt};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LinesCodec};

/// Longest line: a console of 64 KiB with every byte escaped fits.
const LINE_MAX: usize = 1024 * 1024;
/// Most events kept while a command is answered; then the oldest is dropped.
const EVENTS_MAX: usize = 64;

/// A connection to the monitor of one QEMU.
#[derive(Debug)]
pub(crate) struct Qmp {
    lines: Framed<UnixStream, LinesCodec>,
    events: VecDeque<Event>,
}

/// An asynchronous event of QEMU.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) event: String,
    #[serde(default)]
    pub(crate) data: Value,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Message {
    Event(Event),
    Return {
        #[serde(rename = "return")]
        value: Value,
    },
    Error {
        error: QmpError,
    },
    Greeting {
        #[serde(rename = "QMP")]
        _greeting: Value,
    },
}

#[derive(Debug, Deserialize)]
struct QmpError {
    desc: String,
}

impl Qmp {
    /// Waits for the greeting and negotiates capabilities.
    ///
    /// # Errors
    /// The connection is closed, or the peer is no QMP server.
    pub(crate) async fn open(stream: UnixStream) -> io::Result<Self> {
        let lines = Framed::new(stream, LinesCodec::new_with_max_length(LINE_MAX));
        let mut qmp = Self { lines, events: VecDeque::new() };
        match qmp.message().await? {
            Message::Greeting { .. } => {}
            other => return Err(io::Error::other(format!("no greeting but {other:?}"))),
        }
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Sends a command and waits for the answer.
    ///
    /// # Errors
    /// QEMU refuses, or the connection is closed.
    pub(crate) async fn execute(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments }).to_string();
        self.lines.send(request).await.map_err(io::Error::other)?;
        self.answer(command).await
    }

    /// Like [`Qmp::execute`], with a descriptor that the command is about.
    ///
    /// # Errors
    /// QEMU refuses, or the connection is closed.
    pub(crate) async fn execute_with(
        &mut self,
        command: &str,
        arguments: Value,
        fd: BorrowedFd<'_>,
    ) -> io::Result<Value> {
        let request = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        // Nothing is buffered: each request is flushed when it is sent.
        let stream = self.lines.get_ref();
        let sent = stream.async_io(Interest::WRITABLE, || send_with(stream, &request, fd)).await?;
        if sent != request.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.answer(command).await
    }

    async fn answer(&mut self, command: &str) -> io::Result<Value> {
        loop {
            match self.message().await? {
                Message::Return { value } => return Ok(value),
                Message::Error { error } => {
                    return Err(io::Error::other(format!("{command}: {}", error.desc)));
                }
                Message::Event(event) => {
                    if self.events.len() == EVENTS_MAX {
                        self.events.pop_front();
                    }
                    self.events.push_back(event);
                }
                Message::Greeting { .. } => {}
            }
        }
    }

    /// The next event. Cancel safe.
    ///
    /// # Errors
    /// The connection is closed.
    pub(crate) async fn event(&mut self) -> io::Result<Event> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        loop {
            if let Message::Event(event) = self.message().await? {
                return Ok(event);
            }
        }
    }

    /// Events that were received and not taken yet.
    pub(crate) fn pending_events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }

    async fn message(&mut self) -> io::Result<Message> {
        let line = self.lines.next().await.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(serde_json::from_str(&line.map_err(io::Error::other)?)?)
    }
}

fn send_with(stream: &UnixStream, request: &str, fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let bytes = [IoSlice::new(request.as_bytes())];
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(rustix::net::sendmsg(stream, &bytes, &mut control, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    async fn peer(stream: UnixStream, script: &[&str]) {
        let mut stream = BufReader::new(stream);
        for line in script {
            if *line == "read" {
                stream.read_line(&mut String::new()).await.unwrap();
            } else {
                stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn events_between_a_request_and_its_answer_are_kept() {
        let (a, b) = UnixStream::pair().unwrap();
        let script = [
            r#"{"QMP": {"version": {}, "capabilities": []}}"#,
            "read",
            r#"{"return": {}}"#,
            "read",
            r#"{"timestamp": {}, "event": "SHUTDOWN", "data": {"reason": "guest-shutdown"}}"#,
            r#"{"return": {"status": "shutdown"}}"#,
            "read",
            r#"{"error": {"class": "GenericError", "desc": "no such thing"}}"#,
        ];
        let (result, ()) = tokio::join!(
            async {
                let mut qmp = Qmp::open(a).await?;
                let status = qmp.execute("query-status", json!({})).await?;
                assert_eq!(status["status"], "shutdown");
                let refused = qmp.execute("x", json!({})).await.unwrap_err();
                assert_eq!(refused.to_string(), "x: no such thing");
                qmp.event().await
            },
            peer(b, &script)
        );
        assert_eq!(result.unwrap().data["reason"], "guest-shutdown");
    }

    #[tokio::test]
    async fn a_flood_of_events_drops_the_oldest_not_the_shutdown() {
        let (a, b) = UnixStream::pair().unwrap();
        let event = |n: usize| format!(r#"{{"event": "RTC_CHANGE", "data": {{"n": {n}}}}}"#);
        let mut script = vec![r#"{"QMP": {}}"#.to_owned(), "read".into()];
        script.extend((0..2 * EVENTS_MAX).map(event));
        script.push(r#"{"event": "SHUTDOWN", "data": {"reason": "guest-shutdown"}}"#.into());
        script.push(r#"{"return": {}}"#.into());
        let script: Vec<&str> = script.iter().map(String::as_str).collect();
        let (opened, ()) = tokio::join!(Qmp::open(a), peer(b, &script));
        let kept: Vec<Event> = opened.unwrap().events.into();
        assert_eq!(kept.len(), EVENTS_MAX);
        assert_eq!(kept[0].data["n"], EVENTS_MAX + 1, "the oldest were dropped");
        assert_eq!(kept[EVENTS_MAX - 1].event, "SHUTDOWN");
    }

    #[tokio::test]
    async fn a_peer_that_floods_or_talks_nonsense_is_an_error() {
        for line in ["{".to_owned(), "x".repeat(LINE_MAX + 2)] {
            let (a, b) = UnixStream::pair().unwrap();
            let script = [line.as_str()];
            let (opened, ()) = tokio::join!(Qmp::open(a), async {
                let mut b = b;
                // It hangs up in the middle of a flood.
                let _ = b.write_all(format!("{}\n", script[0]).as_bytes()).await;
            });
            assert!(opened.is_err());
        }
    }
}
