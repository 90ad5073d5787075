//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), read as
//! they come.

use crate::Error;
use bytes::BytesMut;
use reqwest::Response;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// Longest line and longest data that are read; more is an error, not memory.
const LONGEST: usize = 1024 * 1024;

/// Events with JSON data.
#[derive(Debug)]
pub struct Events<T> {
    reader: EventReader,
    kind: PhantomData<fn() -> T>,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerEvent<T> {
    /// From here on the stream can be continued.
    pub id: Option<String>,
    /// The value; `None` if only the id is new.
    pub data: Option<T>,
}

impl<T: DeserializeOwned> Events<T> {
    pub(crate) fn new(call: String, answer: Response) -> Self {
        Self { reader: EventReader::new(call, answer), kind: PhantomData }
    }

    /// The next event; `None` at the end. Safe to drop while it waits.
    ///
    /// # Errors
    /// The connection broke, or a value is not what was expected.
    pub async fn next(&mut self) -> Result<Option<ServerEvent<T>>, Error> {
        let Some(RawEvent { id, data, .. }) = self.reader.next().await? else { return Ok(None) };
        let data = (!data.is_empty()).then(|| serde_json::from_str(&data)).transpose();
        let data = data.map_err(|err| self.reader.unexpected(err))?;
        Ok(Some(ServerEvent { id, data }))
    }
}

/// The events of an answer.
#[derive(Debug)]
pub(super) struct EventReader {
    call: String,
    answer: Response,
    buffer: BytesMut,
    parser: Parser,
}

/// An event as it is sent.
#[derive(Debug, Default, PartialEq)]
pub(super) struct RawEvent {
    pub(super) id: Option<String>,
    /// Its type; empty if none is given.
    pub(super) name: String,
    pub(super) data: String,
}

impl EventReader {
    pub(super) fn new(call: String, answer: Response) -> Self {
        Self { call, answer, buffer: BytesMut::new(), parser: Parser::default() }
    }

    /// The next event, which has an id or data; `None` at the end. An event that was cut off is
    /// none. Safe to drop while it waits.
    pub(super) async fn next(&mut self) -> Result<Option<RawEvent>, Error> {
        loop {
            while let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let line = String::from_utf8_lossy(&line);
                if let Some(event) = self.parser.line(line.trim_end_matches(['\r', '\n'])) {
                    return Ok(Some(event));
                }
            }
            if self.buffer.len() > LONGEST || self.parser.next.data.len() > LONGEST {
                return Err(self.unexpected("an event is too long"));
            }
            match self.answer.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => return Ok(None),
                Err(err) => return Err(Error::broken(&self.call, err)),
            }
        }
    }

    /// The error of an event that is not what was expected.
    pub(super) fn unexpected(
        &self,
        err: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::answer(&self.call, err)
    }
}

/// The lines of an event that is not complete.
#[derive(Debug, Default)]
struct Parser {
    next: RawEvent,
}

impl Parser {
    /// Takes a line without its end; the event that it completes, if it does.
    fn line(&mut self, line: &str) -> Option<RawEvent> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.next);
            return (event.id.is_some() || !event.data.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.next.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.next.name),
            "data" => {
                if !self.next.data.is_empty() {
                    self.next.data.push('\n');
                }
                self.next.data.push_str(value);
            }
            // Comments have an empty field; others are ignored as the standard has it.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_by_the_lines_of_the_standard() {
        let mut parser = Parser::default();
        let mut seen = Vec::new();
        for line in [
            ": comment",
            "id: 1",
            "data: a",
            "data:b",
            "",
            "id: 2",
            "",
            "event: gap",
            "data:  x: y",
            "",
            "retry: 5",
            "",
            "id: 3",
            "data: unfinished",
        ] {
            if let Some(RawEvent { id, name, data }) = parser.line(line) {
                seen.push(format!("{} {name}|{data}", id.unwrap_or_default()));
            }
        }
        assert_eq!(seen, ["1 |a\nb", "2 |", " gap| x: y"]);
    }
}
