//! A body of server-sent events with JSON data, read as it comes
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use crate::Error;
use bytes::BytesMut;
use reqwest::Response;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// Longest line that is read; a longer one is an error, not memory.
const LINE: usize = 1024 * 1024;

/// Events of an answer, as they come.
#[derive(Debug)]
pub struct Events<T> {
    call: String,
    answer: Response,
    buffer: BytesMut,
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
        Self { call, answer, buffer: BytesMut::new(), kind: PhantomData }
    }

    /// The next event; `None` at the end. An event that was cut off is none.
    ///
    /// # Errors
    /// The connection broke, or a value is not what was expected.
    pub async fn next(&mut self) -> Result<Option<ServerEvent<T>>, Error> {
        let (mut id, mut data) = (None, String::new());
        loop {
            let Some(line) = self.line().await? else { return Ok(None) };
            let (field, value) = field(&line);
            match field {
                "id" => id = Some(value.to_owned()),
                "data" => {
                    data.push_str(value);
                    data.push('\n');
                }
                "" if value.is_empty() && (id.is_some() || !data.is_empty()) => break,
                // Comments, and fields of no use here.
                _ => {}
            }
            if data.len() > LINE {
                return Err(Error::answer(&self.call, "an event is too long"));
            }
        }
        let data = (!data.is_empty()).then(|| serde_json::from_str(&data)).transpose();
        let data = data.map_err(|err| Error::answer(&self.call, err))?;
        Ok(Some(ServerEvent { id, data }))
    }

    /// The next line, without its end.
    async fn line(&mut self) -> Result<Option<String>, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let line = String::from_utf8_lossy(&line);
                return Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()));
            }
            if self.buffer.len() > LINE {
                return Err(Error::answer(&self.call, "a line is too long"));
            }
            match self.answer.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => return Ok(None),
                Err(err) => return Err(Error::broken(&self.call, err)),
            }
        }
    }
}

/// Name and value of a line. A comment has no name, and keeps its colon.
fn field(line: &str) -> (&str, &str) {
    match line.split_once(':') {
        Some(("", _)) => ("", line),
        Some((name, value)) => (name, value.strip_prefix(' ').unwrap_or(value)),
        None => (line, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_fields_or_comments() {
        for (line, expected) in [
            ("id: 0.5-1.7", ("id", "0.5-1.7")),
            ("data:{}", ("data", "{}")),
            ("data:  x: y", ("data", " x: y")),
            ("data", ("data", "")),
            (": keep-alive", ("", ": keep-alive")),
            (":", ("", ":")),
            ("", ("", "")),
        ] {
            assert_eq!(field(line), expected, "{line}");
        }
    }
}
