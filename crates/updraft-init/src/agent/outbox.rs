//! The messages that wait to be sent to the host, in order of importance and bounded.
//!
//! Control messages go first; they are few (the event loop stops reading the host
//! while [`Outbox::is_congested`]). Output of execs is under credit. Log data has
//! a queue of its own. The final message (the main process has ended, or the
//! configuration failed) follows the log, so that a host that powers the guest off
//! when it arrives has all lines.
//!
//! Nothing is sent without a session: the welcome of the next one has the state.

use super::log_queue::{ENTRY_COST, LogQueue};
use guest_protocol::{ToHost, codec};
use std::collections::VecDeque;

/// Bytes put on the wire at once; the driver takes at most this much per write.
const BATCH: usize = 32 * 1024;
/// Control messages that may wait before the host is no longer read.
const MAX_CONTROL: usize = 256;
/// Bytes of bulk data that may wait, of all execs and connections together.
const BULK: usize = 256 * 1024;

/// Bytes that a message of bulk data holds.
fn bulk_cost(message: &ToHost) -> usize {
    let bytes = match message {
        ToHost::ExecOutput(_, _, bytes) | ToHost::ApiData(_, bytes) => bytes.len(),
        _ => 0,
    };
    bytes + ENTRY_COST
}

/// Everything on its way to the host.
pub(crate) struct Outbox {
    control: VecDeque<ToHost>,
    bulk: VecDeque<ToHost>,
    bulk_held: usize,
    last: Option<ToHost>,
    /// Public, since every part of the event loop logs.
    pub(crate) logs: LogQueue,
    wire: Vec<u8>,
    sent: usize,
    in_session: bool,
}

impl Outbox {
    /// Empty, before any session.
    pub(crate) fn new(log_limit: usize) -> Self {
        Self {
            control: VecDeque::new(),
            bulk: VecDeque::new(),
            bulk_held: 0,
            last: None,
            logs: LogQueue::new(log_limit),
            wire: Vec::new(),
            sent: 0,
            in_session: false,
        }
    }

    /// Ends the current session: nothing of it but the log is kept.
    fn close_session(&mut self) {
        self.control.clear();
        self.bulk.clear();
        self.bulk_held = 0;
        self.last = None;
        self.logs.restart();
        self.wire.clear();
        self.sent = 0;
        self.in_session = false;
    }

    /// Begins a session with its first message.
    pub(crate) fn open_session(&mut self, welcome: ToHost) {
        self.close_session();
        self.in_session = true;
        self.control.push_back(welcome);
    }

    /// Queues a control message, if there is a session.
    pub(crate) fn control(&mut self, message: ToHost) {
        if self.in_session {
            self.control.push_back(message);
        }
    }

    /// Queues the message that follows the log.
    pub(crate) fn final_message(&mut self, message: ToHost) {
        if self.in_session {
            self.last = Some(message);
        }
    }

    /// Queues a message in the order of bulk data: output of an exec or data of a
    /// client of the API, and its end.
    pub(crate) fn bulk(&mut self, message: ToHost) {
        if self.in_session {
            self.bulk_held += bulk_cost(&message);
            self.bulk.push_back(message);
        }
    }

    /// Whether there is a session.
    pub(crate) fn in_session(&self) -> bool {
        self.in_session
    }

    /// Whether bulk data should not be read from its sources now.
    pub(crate) fn bulk_is_full(&self) -> bool {
        self.bulk_held >= BULK
    }

    /// Whether no more requests of the host should be read now.
    pub(crate) fn is_congested(&self) -> bool {
        self.control.len() >= MAX_CONTROL
    }

    /// Whether everything has been handed to the port.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.wire.len()
            && self.control.is_empty()
            && self.bulk.is_empty()
            && self.last.is_none()
            && self.logs.is_sent()
    }

    /// Hands bytes to `write` until it takes no more.
    pub(crate) fn flush(&mut self, mut write: impl FnMut(&[u8]) -> usize) {
        while self.refill() {
            let taken = write(&self.wire[self.sent..]);
            if taken == 0 {
                return;
            }
            self.sent += taken;
        }
    }

    /// Makes sure there are bytes to send; false if there is nothing to send.
    fn refill(&mut self) -> bool {
        if self.sent < self.wire.len() {
            return true;
        }
        self.wire.clear();
        self.sent = 0;
        while self.in_session && self.wire.len() < BATCH && self.put_next() {}
        !self.wire.is_empty()
    }

    /// Puts the next message on the wire; false if there is none.
    fn put_next(&mut self) -> bool {
        if let Some(message) = self.control.pop_front() {
            self.put(&message);
        } else if let Some(message) = self.bulk.pop_front() {
            self.bulk_held -= bulk_cost(&message);
            self.put(&message);
        } else if let Some(message) = self.logs.next() {
            self.put(&message);
        } else if let Some(message) = self.last.take() {
            self.put(&message);
        } else {
            return false;
        }
        true
    }

    fn put(&mut self, message: &ToHost) {
        self.wire.extend_from_slice(&codec::encode(message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_protocol::{Exit, HIGHEST, LogSource, MAX_CHUNK, Output, Phase};

    fn welcome(session: u64) -> ToHost {
        ToHost::Welcome {
            version: HIGHEST,
            session,
            phase: Phase::AwaitingConfig,
            listening: vec![],
        }
    }

    fn log(data: &[u8]) -> ToHost {
        ToHost::Log { source: LogSource::Stdout, offset: Some(0), data: data.to_vec(), unit: None }
    }

    fn sent(outbox: &mut Outbox) -> Vec<ToHost> {
        let (mut decoder, mut out) = (codec::Decoder::default(), Vec::new());
        outbox.flush(|bytes| {
            decoder.feed(bytes, |m| out.push(m));
            bytes.len()
        });
        out
    }

    #[test]
    fn the_final_message_follows_the_log_and_the_welcome_precedes_it() {
        let mut outbox = Outbox::new(4096);
        outbox.logs.push(LogSource::Stdout, b"early\n");
        assert!(sent(&mut outbox).is_empty(), "nothing without a session");
        outbox.open_session(welcome(7));
        outbox.final_message(ToHost::Exited(Exit::default()));
        outbox.logs.push(LogSource::Stdout, b"late\n");
        assert_eq!(
            sent(&mut outbox),
            [welcome(7), log(b"early\nlate\n"), ToHost::Exited(Exit::default()),]
        );
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_new_session_gets_the_log_that_was_not_acknowledged() {
        let mut outbox = Outbox::new(4096);
        outbox.open_session(welcome(1));
        sent(&mut outbox);
        outbox.logs.push(LogSource::Stdout, b"0123456789");
        let mut first = true;
        outbox.flush(|_| usize::from(std::mem::take(&mut first)) * 3);
        outbox.open_session(welcome(2));
        let log = log(b"0123456789");
        assert_eq!(sent(&mut outbox), [welcome(2), log]);
        outbox.logs.acknowledge(LogSource::Stdout, 10);
        outbox.open_session(welcome(3));
        assert_eq!(sent(&mut outbox), [welcome(3)]);
    }

    #[test]
    fn exec_output_keeps_its_order_and_its_bound() {
        let mut outbox = Outbox::new(4096);
        outbox.open_session(welcome(1));
        for _ in 0..8 {
            outbox.bulk(ToHost::ExecOutput(1, Output::Stdout, vec![0; MAX_CHUNK]));
        }
        outbox.bulk(ToHost::ExecExited(1, Exit::default()));
        assert!(outbox.bulk_is_full());
        let all = sent(&mut outbox);
        assert_eq!(all.last(), Some(&ToHost::ExecExited(1, Exit::default())));
        assert!(!outbox.bulk_is_full());
    }
}
