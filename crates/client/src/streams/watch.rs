//! Events as they happen: server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), read as they come.

use crate::Error;
use bytes::BytesMut;
use reqwest::Response;
use wire::machines::WatchEvent;

/// Longest line that is read; a longer one is an error, not memory.
const LINE: usize = 1024 * 1024;

/// A part of a watch.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Something happened to a machine.
    Event(Box<WatchEvent>),
    /// Events may be missing before the next one; why, in words.
    Gap(String),
}

/// An answer that lasts, one event after the other.
#[derive(Debug)]
pub struct Watch {
    call: String,
    answer: Response,
    buffer: BytesMut,
    parser: Parser,
}

impl Watch {
    pub(crate) fn new(call: String, answer: Response, after: Option<&str>) -> Self {
        let parser = Parser { id: after.map(str::to_owned), ..Parser::default() };
        Self { call, answer, buffer: BytesMut::new(), parser }
    }

    /// How far the watch has come: a later one continues after it.
    pub fn last_id(&self) -> Option<&str> {
        self.parser.id.as_deref()
    }

    /// The next event; `None` at the end. Safe to drop while it waits.
    ///
    /// # Errors
    /// The connection broke, or an event is not what was expected.
    pub async fn next(&mut self) -> Result<Option<News>, Error> {
        loop {
            while let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let line = String::from_utf8_lossy(&line);
                if let Some(event) = self.parser.line(line.trim_end_matches(['\r', '\n'])) {
                    return news(&event).map(Some).map_err(|err| Error::answer(&self.call, err));
                }
            }
            if self.buffer.len() > LINE || self.parser.data.len() > LINE {
                return Err(Error::answer(&self.call, "an event is too long"));
            }
            match self.answer.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => return Ok(None),
                Err(err) => return Err(Error::broken(&self.call, err)),
            }
        }
    }
}

fn news(event: &Event) -> Result<News, serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct Gap {
        message: String,
    }
    match event.name.as_str() {
        "gap" => serde_json::from_str(&event.data).map(|gap: Gap| News::Gap(gap.message)),
        _ => serde_json::from_str(&event.data).map(|event| News::Event(Box::new(event))),
    }
}

#[derive(Debug, PartialEq)]
struct Event {
    name: String,
    data: String,
}

/// What is known of an event whose lines are not complete.
#[derive(Debug, Default)]
struct Parser {
    id: Option<String>,
    next_id: Option<String>,
    name: String,
    data: String,
}

impl Parser {
    /// Takes a line without its end; the event that it completes, if it does.
    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            // The id counts once its event is complete, also if that has no data.
            self.id = self.next_id.take().or(self.id.take());
            let event = Event { name: take(&mut self.name), data: take(&mut self.data) };
            return (!event.data.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.next_id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // Comments have an empty field; others are ignored as the standard has it.
            _ => {}
        }
        None
    }
}

fn take(text: &mut String) -> String {
    std::mem::take(text)
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
            "data: c",
            "",
            "retry: 5",
            "",
            "id: 3",
            "data: unfinished",
        ] {
            if let Some(Event { name, data }) = parser.line(line) {
                seen.push(format!("{:?} {name}|{data}", parser.id));
            }
        }
        assert_eq!(seen, ["Some(\"1\") |a\nb", "Some(\"2\") gap|c"]);
        assert_eq!(parser.id.as_deref(), Some("2"), "an event counts once it is complete");
    }
}
