//! What waits to be sent to the host, in order of importance and bounded.
//!
//! Control messages go first; they are few (the loop stops reading the host
//! while [`Outbox::is_crowded`]). Output of execs is under credit. Log lines are
//! kept up to a limit, then dropped and counted. The last word (the main process
//! has ended, the orders failed) goes when the log is out, so that a host that
//! powers the guest off on hearing it has all lines.
//!
//! Nothing is sent without a session: state is told anew by the next welcome.

use guest_protocol::{LogSource, MAX_CHUNK, ToHost, codec};
use std::collections::VecDeque;

/// Bytes put on the wire at once; the driver takes at most this much per write.
const BATCH: usize = 32 * 1024;
/// Control messages that may wait before the host is no longer read.
const CROWDED: usize = 256;
/// Bytes of bulk data that may wait, of all execs and connections together.
const BULK: usize = 256 * 1024;
/// What an entry costs beside its bytes, so that many tiny lines are bounded too.
const ENTRY: usize = 64;

#[derive(Clone, Debug, PartialEq)]
enum Entry {
    Data(LogSource, Vec<u8>),
    Dropped(u64),
}

impl Entry {
    fn cost(&self) -> usize {
        match self {
            Self::Data(_, data) => data.len() + ENTRY,
            Self::Dropped(_) => ENTRY,
        }
    }

    fn message(&self) -> ToHost {
        match self {
            Self::Data(source, data) => ToHost::Log(*source, data.clone()),
            Self::Dropped(count) => ToHost::LogDropped(*count),
        }
    }
}

/// What a message of bulk data holds.
fn bulk_cost(message: &ToHost) -> usize {
    let bytes = match message {
        ToHost::ExecOutput(_, _, bytes) | ToHost::ApiData(_, bytes) => bytes.len(),
        _ => 0,
    };
    bytes + ENTRY
}

/// Log lines for a host that may not read.
pub(crate) struct Logs {
    queue: VecDeque<Entry>,
    held: usize,
    limit: usize,
    dropped: u64,
}

impl Logs {
    /// Holds up to `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { queue: VecDeque::new(), held: 0, limit, dropped: 0 }
    }

    /// Changes the limit for what comes from now on.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes `bytes` in, or drops and counts them.
    pub(crate) fn push(&mut self, source: LogSource, bytes: &[u8]) {
        for chunk in bytes.chunks(MAX_CHUNK) {
            self.push_chunk(source, chunk);
        }
    }

    fn push_chunk(&mut self, source: LogSource, chunk: &[u8]) {
        let room = self.limit.saturating_sub(self.held + ENTRY);
        let (chunk, rest) = chunk.split_at(chunk.len().min(room));
        if chunk.is_empty() {
            self.dropped += rest.len() as u64;
            return;
        }
        self.mark_gap();
        self.append(source, chunk);
        self.dropped += rest.len() as u64;
    }

    fn append(&mut self, source: LogSource, chunk: &[u8]) {
        if let Some(Entry::Data(last, data)) = self.queue.back_mut()
            && *last == source
            && data.len() + chunk.len() <= MAX_CHUNK
        {
            data.extend_from_slice(chunk);
            self.held += chunk.len();
            return;
        }
        self.held += chunk.len() + ENTRY;
        self.queue.push_back(Entry::Data(source, chunk.to_vec()));
    }

    fn mark_gap(&mut self) {
        if self.dropped > 0 {
            self.queue.push_back(Entry::Dropped(std::mem::take(&mut self.dropped)));
            self.held += ENTRY;
        }
    }

    /// The next entry.
    fn pop(&mut self) -> Option<Entry> {
        if self.queue.is_empty() {
            self.mark_gap();
        }
        let entry = self.queue.pop_front()?;
        self.held -= entry.cost();
        Some(entry)
    }

    /// Puts back what was taken last but did not reach the host. It may exceed
    /// the limit by what was on the wire.
    fn put_back(&mut self, entry: Entry) {
        self.held += entry.cost();
        self.queue.push_front(entry);
    }
}

/// Everything on its way to the host.
pub(crate) struct Outbox {
    control: VecDeque<ToHost>,
    bulk: VecDeque<ToHost>,
    bulk_held: usize,
    last: Option<ToHost>,
    /// Open to all, since every part of the loop logs.
    pub(crate) logs: Logs,
    wire: Vec<u8>,
    sent: usize,
    /// Log entries within `wire`, each with the end of its frame there.
    wire_logs: Vec<(usize, Entry)>,
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
            logs: Logs::new(log_limit),
            wire: Vec::new(),
            sent: 0,
            wire_logs: Vec::new(),
            in_session: false,
        }
    }

    /// Ends the session at hand: all but the log is void.
    fn close_session(&mut self) {
        self.control.clear();
        self.bulk.clear();
        self.bulk_held = 0;
        self.last = None;
        // A frame that is not wholly out will be skipped by whoever reads next:
        // its lines are not lost but said again.
        while let Some((end, entry)) = self.wire_logs.pop() {
            if end > self.sent {
                self.logs.put_back(entry);
            }
        }
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

    /// Queues a control message, if anybody is there to hear it.
    pub(crate) fn control(&mut self, message: ToHost) {
        if self.in_session {
            self.control.push_back(message);
        }
    }

    /// Queues the message that goes behind the log.
    pub(crate) fn last_word(&mut self, message: ToHost) {
        if self.in_session {
            self.last = Some(message);
        }
    }

    /// Queues a message in the order of bulk data: what an exec or a client of
    /// the API says, and its end.
    pub(crate) fn bulk(&mut self, message: ToHost) {
        if self.in_session {
            self.bulk_held += bulk_cost(&message);
            self.bulk.push_back(message);
        }
    }

    /// Whether anybody is there to hear.
    pub(crate) fn in_session(&self) -> bool {
        self.in_session
    }

    /// Whether more bulk data should wait where it comes from.
    pub(crate) fn bulk_is_full(&self) -> bool {
        self.bulk_held >= BULK
    }

    /// Whether the host should not be asked for more work now.
    pub(crate) fn is_crowded(&self) -> bool {
        self.control.len() >= CROWDED
    }

    /// Whether everything has been handed to the port.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.wire.len()
            && self.control.is_empty()
            && self.bulk.is_empty()
            && self.last.is_none()
            && self.logs.queue.is_empty()
            && self.logs.dropped == 0
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

    /// Makes sure there are bytes to send; false if there is nothing to say.
    fn refill(&mut self) -> bool {
        if self.sent < self.wire.len() {
            return true;
        }
        self.wire.clear();
        self.sent = 0;
        self.wire_logs.clear();
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
        } else if let Some(entry) = self.logs.pop() {
            self.put(&entry.message());
            self.wire_logs.push((self.wire.len(), entry));
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
    use guest_protocol::{Exit, Output, Phase};

    fn welcome(session: u64) -> ToHost {
        ToHost::Welcome { version: 1, session, phase: Phase::AwaitsOrders, listening: vec![] }
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
    fn the_last_word_comes_behind_the_log_and_the_welcome_before_it() {
        let mut outbox = Outbox::new(4096);
        outbox.logs.push(LogSource::Stdout, b"early\n");
        assert!(sent(&mut outbox).is_empty(), "nothing without a session");
        outbox.open_session(welcome(7));
        outbox.last_word(ToHost::Exited(Exit::default()));
        outbox.logs.push(LogSource::Stdout, b"late\n");
        assert_eq!(
            sent(&mut outbox),
            [
                welcome(7),
                ToHost::Log(LogSource::Stdout, b"early\nlate\n".to_vec()),
                ToHost::Exited(Exit::default()),
            ]
        );
        assert!(outbox.is_empty());
    }

    #[test]
    fn log_beyond_the_limit_is_dropped_and_counted_in_its_place() {
        let mut logs = Logs::new(300);
        let log = |source, byte, len| Some(ToHost::Log(source, vec![byte; len]));
        let pop = |logs: &mut Logs| logs.pop().map(|entry| entry.message());
        logs.push(LogSource::Stdout, &[b'a'; 100]);
        // What fits of it is kept: 300 less 164 held and 64 for an entry.
        logs.push(LogSource::Stderr, &[b'b'; 200]);
        logs.push(LogSource::Stdout, b"lost");
        assert_eq!(pop(&mut logs), log(LogSource::Stdout, b'a', 100));
        logs.push(LogSource::Stderr, b"c");
        assert_eq!(pop(&mut logs), log(LogSource::Stderr, b'b', 72));
        assert_eq!(pop(&mut logs), Some(ToHost::LogDropped(132)));
        assert_eq!(pop(&mut logs), log(LogSource::Stderr, b'c', 1));
        assert_eq!((logs.pop(), logs.held), (None, 0));
    }

    #[test]
    fn many_tiny_lines_are_bounded_by_what_they_cost() {
        let mut logs = Logs::new(64 * 1024);
        for i in 0..1_000_000 {
            logs.push(if i % 2 == 0 { LogSource::Stdout } else { LogSource::Stderr }, b"x");
        }
        assert!(logs.queue.len() <= 1024, "{}", logs.queue.len());
    }

    #[test]
    fn a_cut_session_says_again_what_was_on_the_wire() {
        let mut outbox = Outbox::new(4096);
        outbox.open_session(welcome(1));
        sent(&mut outbox);
        outbox.logs.push(LogSource::Stdout, b"0123456789");
        let mut first = true;
        outbox.flush(|_| usize::from(std::mem::take(&mut first)) * 3);
        outbox.open_session(welcome(2));
        let log = ToHost::Log(LogSource::Stdout, b"0123456789".to_vec());
        assert_eq!(sent(&mut outbox), [welcome(2), log]);
        // What was wholly out is not said twice.
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
