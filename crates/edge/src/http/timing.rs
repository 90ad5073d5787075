//! Where the time of a request went that had to wait for a machine to come up.
//!
//! The answer's `Server-Timing` header names, in order: `edge_decide`, from the
//! request's head until the edge waited for a wake; the host's stages of that
//! start, with `host_` before their names; `connect`, from the machine's port
//! being known to listen until a connection to it was made; `first_byte`, from
//! then until the head of the app's answer; `total`, from head to head.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Moments in the life of one request.
#[derive(Debug)]
pub(crate) struct Timestamps {
    pub(crate) began: Instant,
    decided: Option<Instant>,
    placed: Option<Instant>,
    connected: Option<Instant>,
}

impl Timestamps {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), decided: None, placed: None, connected: None }
    }

    /// It now waits for a machine to come up, perhaps once more.
    pub(crate) fn record_wait(&mut self) {
        self.decided.get_or_insert_with(Instant::now);
        self.placed = None;
    }

    /// Since when it has waited for a wake, if it had to.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        self.decided
    }

    /// It has a place. Returns whether it waited for a wake, and this is its first
    /// place after that.
    pub(crate) fn record_placed(&mut self) -> bool {
        let is_first = self.decided.is_some() && self.placed.is_none();
        if is_first {
            self.placed = Some(Instant::now());
        }
        is_first
    }

    /// It has a connection. Returns how long it has been under way, if it waited.
    pub(crate) fn record_connected(&mut self) -> Option<Duration> {
        self.decided?;
        self.connected = Some(Instant::now());
        Some(self.began.elapsed())
    }

    /// Adds a header line that shows where the time went until now; an app's own
    /// line stays. `host` are the stages of a start that it waited for.
    pub(crate) fn write_header(&self, headers: &mut HeaderMap, host: &str) {
        let (Some(decided), Some(placed), Some(connected)) =
            (self.decided, self.placed, self.connected)
        else {
            return;
        };
        let ms = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1e3;
        let now = Instant::now();
        let text = format!(
            "edge_decide;dur={:.1}, {host}connect;dur={:.1}, first_byte;dur={:.1}, total;dur={:.1}",
            ms(self.began, decided),
            ms(placed, connected),
            ms(connected, now),
            ms(self.began, now),
        );
        // Tokens and numbers only: always a valid value.
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.append(SERVER_TIMING, value);
        }
    }
}

/// A host's stages as they stand in the header, each with a comma behind it.
/// What cannot be a name there is replaced, what is no duration left out.
pub(crate) fn host_stages(stages_ms: &[(String, f64)]) -> Arc<str> {
    let mut text = String::new();
    for (name, ms) in stages_ms.iter().filter(|(_, ms)| ms.is_finite() && *ms >= 0.0) {
        text.push_str("host_");
        text.extend(name.chars().map(|c| if is_token(c) { c } else { '_' }));
        // Writing to a string cannot fail.
        let _ = write!(text, ";dur={ms:.1}, ");
    }
    text.into()
}

/// It may stand in a token (RFC 9110, 5.6.2).
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(headers: &HeaderMap) -> Vec<&str> {
        headers.get_all(SERVER_TIMING).iter().map(|line| line.to_str().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn stages_stand_in_order_and_beside_the_apps_own() {
        let stages =
            [("image", 1.25), ("to guest,\n\"é\"", 30.0), ("bad", f64::NAN), ("worse", -1.0)];
        let host = host_stages(&stages.map(|(name, ms)| (name.to_owned(), ms)));
        let pass = |ms| tokio::time::sleep(Duration::from_millis(ms));
        let mut timestamps = Timestamps::new();
        pass(1).await;
        timestamps.record_wait();
        pass(50).await;
        assert!(timestamps.record_placed());
        pass(2).await;
        assert!(!timestamps.record_placed(), "refused, and placed again");
        pass(4).await;
        assert_eq!(timestamps.record_connected(), Some(Duration::from_millis(57)));
        pass(10).await;
        let mut headers = HeaderMap::new();
        headers.insert(SERVER_TIMING, HeaderValue::from_static("db;dur=7"));
        timestamps.write_header(&mut headers, &host);
        assert_eq!(
            show(&headers),
            [
                "db;dur=7",
                "edge_decide;dur=1.0, host_image;dur=1.2, host_to_guest_____;dur=30.0, \
                 connect;dur=6.0, first_byte;dur=10.0, total;dur=67.0"
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_did_not_wait_gets_no_header() {
        let (mut timestamps, mut headers) = (Timestamps::new(), HeaderMap::new());
        assert!(!timestamps.record_placed() && timestamps.record_connected().is_none());
        timestamps.write_header(&mut headers, "");
        assert!(headers.is_empty());
    }
}
