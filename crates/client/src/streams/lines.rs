//! A body of JSON values, one per line (NDJSON), read as it comes.

use crate::Error;
use bytes::BytesMut;
use reqwest::Response;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// Longest line that is read; a longer one is an error, not memory.
const LINE: usize = 1024 * 1024;

/// Values of an NDJSON answer, as they come.
#[derive(Debug)]
pub struct Lines<T> {
    call: String,
    answer: Response,
    buffer: BytesMut,
    ended: bool,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    pub(crate) fn new(call: String, answer: Response) -> Self {
        Self { call, answer, buffer: BytesMut::new(), ended: false, kind: PhantomData }
    }

    /// The next value; `None` at the end. Safe to drop while it waits.
    ///
    /// # Errors
    /// The connection broke, or a line is not what was expected.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(line) = self.take_line() {
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let value = serde_json::from_slice(&line);
                return value.map(Some).map_err(|err| Error::answer(&self.call, err));
            }
            if self.ended {
                return Ok(None);
            }
            if self.buffer.len() > LINE {
                return Err(Error::answer(&self.call, "a line is too long"));
            }
            match self.answer.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => self.ended = true,
                Err(err) => return Err(Error::broken(&self.call, err)),
            }
        }
    }

    fn take_line(&mut self) -> Option<BytesMut> {
        match self.buffer.iter().position(|&b| b == b'\n') {
            Some(end) => Some(self.buffer.split_to(end + 1)),
            None if self.ended && !self.buffer.is_empty() => Some(self.buffer.split()),
            None => None,
        }
    }
}
