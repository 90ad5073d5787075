//! A watch: the events of machines as they happen.

use super::events::{EventReader, RawEvent};
use crate::Error;
use reqwest::Response;
use wire::machines::WatchEvent;

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
    reader: EventReader,
    last_id: Option<String>,
}

impl Watch {
    pub(crate) fn new(call: String, answer: Response, after: Option<&str>) -> Self {
        Self { reader: EventReader::new(call, answer), last_id: after.map(str::to_owned) }
    }

    /// How far the watch has come: a later one continues after it.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The next event; `None` at the end. Safe to drop while it waits.
    ///
    /// # Errors
    /// The connection broke, or an event is not what was expected.
    pub async fn next(&mut self) -> Result<Option<News>, Error> {
        while let Some(event) = self.reader.next().await? {
            if event.id.is_some() {
                self.last_id.clone_from(&event.id);
            }
            if !event.data.is_empty() {
                return news(&event).map(Some).map_err(|err| self.reader.unexpected(err));
            }
        }
        Ok(None)
    }
}

fn news(event: &RawEvent) -> Result<News, serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct Gap {
        message: String,
    }
    match event.name.as_str() {
        "gap" => serde_json::from_str(&event.data).map(|gap: Gap| News::Gap(gap.message)),
        _ => serde_json::from_str(&event.data).map(|event| News::Event(Box::new(event))),
    }
}
