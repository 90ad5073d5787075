//! Log data for a host that may not read, or may be replaced while it does.
//!
//! Data stays here until the host has acknowledged it
//! ([`guest_protocol::ToGuest::LogReceived`]), and is sent again, with the same
//! offsets, to the next host that connects. What does not fit into the limit is
//! dropped and counted in its place.

use guest_protocol::{LogSource, MAX_CHUNK, ToHost, UnitId};
use std::collections::{HashMap, VecDeque};

/// The cost of an entry beside its bytes, so that many tiny lines are bounded too.
pub(crate) const ENTRY_COST: usize = 64;

/// A source of one unit, or of a guest without units. Its bytes are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Channel {
    pub(crate) source: LogSource,
    pub(crate) unit: Option<UnitId>,
}

impl From<LogSource> for Channel {
    fn from(source: LogSource) -> Self {
        Self { source, unit: None }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Entry {
    Data { channel: Channel, offset: u64, data: Vec<u8> },
    Dropped(u64),
}

impl Entry {
    fn cost(&self) -> usize {
        match self {
            Self::Data { data, .. } => data.len() + ENTRY_COST,
            Self::Dropped(_) => ENTRY_COST,
        }
    }

    fn message(&self) -> ToHost {
        match self {
            Self::Data { channel: Channel { source, unit }, offset, data } => ToHost::Log {
                source: *source,
                offset: Some(*offset),
                data: data.clone(),
                unit: *unit,
            },
            Self::Dropped(count) => ToHost::LogDropped(*count),
        }
    }
}

/// Position of one channel.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Bytes queued since boot.
    queued: u64,
    /// The last of them does not end a line.
    mid_line: bool,
}

/// The log of all sources, in the order in which it was written.
pub(crate) struct LogQueue {
    entries: VecDeque<Entry>,
    /// How many of `entries` were sent in this session.
    sent: usize,
    held: usize,
    limit: usize,
    dropped: u64,
    progress: HashMap<Channel, Progress>,
}

impl LogQueue {
    /// Holds up to `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            sent: 0,
            held: 0,
            limit,
            dropped: 0,
            progress: HashMap::new(),
        }
    }

    /// Changes the limit for later data.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Queues `bytes`, or drops and counts them.
    pub(crate) fn push(&mut self, channel: impl Into<Channel>, bytes: &[u8]) {
        let channel = channel.into();
        for chunk in bytes.chunks(MAX_CHUNK) {
            self.push_chunk(channel, chunk);
        }
    }

    /// Queues a line of init, about a unit or the whole guest.
    pub(crate) fn line(&mut self, unit: Option<UnitId>, line: &str) {
        self.push(Channel { source: LogSource::Init, unit }, format!("{line}\n").as_bytes());
    }

    /// Ends a line that was begun: its channel is written to no more.
    pub(crate) fn end_line(&mut self, channel: impl Into<Channel>) {
        let channel = channel.into();
        if self.progress.get(&channel).is_some_and(|progress| progress.mid_line) {
            self.push(channel, b"\n");
        }
    }

    fn push_chunk(&mut self, channel: Channel, chunk: &[u8]) {
        let room = self.limit.saturating_sub(self.held + ENTRY_COST);
        let (chunk, rest) = chunk.split_at(chunk.len().min(room));
        if !chunk.is_empty() {
            self.mark_gap();
            self.append(channel, chunk);
        }
        self.dropped += rest.len() as u64;
    }

    fn append(&mut self, channel: Channel, chunk: &[u8]) {
        let progress = self.progress.entry(channel).or_default();
        let offset = progress.queued;
        progress.queued += chunk.len() as u64;
        progress.mid_line = chunk.last() != Some(&b'\n');
        let unsent = self.sent < self.entries.len();
        if let Some(Entry::Data { channel: last, data, .. }) = self.entries.back_mut()
            && (unsent && *last == channel)
            && data.len() + chunk.len() <= MAX_CHUNK
        {
            data.extend_from_slice(chunk);
            self.held += chunk.len();
            return;
        }
        self.push_entry(Entry::Data { channel, offset, data: chunk.to_vec() });
    }

    fn mark_gap(&mut self) {
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            self.push_entry(Entry::Dropped(dropped));
        }
    }

    fn push_entry(&mut self, entry: Entry) {
        self.held += entry.cost();
        self.entries.push_back(entry);
    }

    /// Whether everything was sent in this session.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent == self.entries.len() && self.dropped == 0
    }

    /// The next message to send in this session.
    pub(crate) fn next(&mut self) -> Option<ToHost> {
        if self.sent == self.entries.len() {
            self.mark_gap();
        }
        let message = self.entries.get(self.sent)?.message();
        self.sent += 1;
        Some(message)
    }

    /// Begins a session: what was not acknowledged is sent again.
    pub(crate) fn restart(&mut self) {
        self.sent = 0;
    }

    /// The host has stored all of a channel before `offset`.
    pub(crate) fn acknowledge(&mut self, channel: impl Into<Channel>, offset: u64) {
        let channel = channel.into();
        let mut at = 0;
        while at < self.sent {
            match &mut self.entries[at] {
                Entry::Data { channel: of, offset: begin, data } if *of == channel => {
                    let stored = offset.saturating_sub(*begin);
                    let stored = usize::try_from(stored).unwrap_or(usize::MAX).min(data.len());
                    if stored < data.len() {
                        *begin += stored as u64;
                        self.held -= stored;
                        drop(data.drain(..stored));
                        break;
                    }
                    self.remove(at);
                }
                // The gap was sent, and all data before it has been stored.
                Entry::Dropped(_) if at == 0 => self.remove(at),
                Entry::Data { .. } | Entry::Dropped(_) => at += 1,
            }
        }
    }

    fn remove(&mut self, at: usize) {
        if let Some(entry) = self.entries.remove(at) {
            self.held -= entry.cost();
            self.sent -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LogSource::{Stderr, Stdout};

    fn log(source: LogSource, offset: u64, data: &[u8]) -> ToHost {
        ToHost::Log { source, offset: Some(offset), data: data.to_vec(), unit: None }
    }

    fn all(queue: &mut LogQueue) -> Vec<ToHost> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    #[test]
    fn log_beyond_the_limit_is_dropped_and_counted_in_its_place() {
        let mut queue = LogQueue::new(300);
        queue.push(Stdout, &[b'a'; 100]);
        // The part of it that fits is kept: 300 less 164 held and 64 for an entry.
        queue.push(Stderr, &[b'b'; 200]);
        queue.push(Stdout, b"lost");
        assert_eq!(queue.next(), Some(log(Stdout, 0, &[b'a'; 100])));
        queue.acknowledge(Stdout, 100);
        queue.push(Stderr, b"c");
        let want = [log(Stderr, 0, &[b'b'; 72]), ToHost::LogDropped(132), log(Stderr, 72, b"c")];
        assert_eq!(all(&mut queue), want);
        queue.acknowledge(Stderr, 73);
        assert_eq!((queue.next(), queue.held, queue.entries.len()), (None, 0, 0));
    }

    #[test]
    fn many_tiny_lines_are_bounded_by_what_they_cost() {
        let mut queue = LogQueue::new(64 * 1024);
        for i in 0..1_000_000 {
            queue.push(if i % 2 == 0 { Stdout } else { Stderr }, b"x");
        }
        assert!(queue.entries.len() <= 1024, "{}", queue.entries.len());
    }

    #[test]
    fn a_new_session_gets_what_was_not_acknowledged_with_the_same_offsets() {
        let mut queue = LogQueue::new(4096);
        queue.push(Stdout, b"one\ntwo\nthr");
        queue.push(Stderr, b"err");
        assert_eq!(all(&mut queue), [log(Stdout, 0, b"one\ntwo\nthr"), log(Stderr, 0, b"err")]);
        queue.acknowledge(Stdout, 8);
        queue.push(Stdout, b"ee\n");
        queue.restart();
        let want = [log(Stdout, 8, b"thr"), log(Stderr, 0, b"err"), log(Stdout, 11, b"ee\n")];
        assert_eq!(all(&mut queue), want);
        queue.acknowledge(Stdout, 14);
        queue.acknowledge(Stderr, 3);
        queue.restart();
        assert_eq!(all(&mut queue), []);
    }

    #[test]
    fn each_unit_is_numbered_and_acknowledged_apart() {
        let mut queue = LogQueue::new(4096);
        let of = |unit| Channel { source: Stdout, unit: Some(unit) };
        queue.push(of(0), b"one\n");
        queue.push(of(1), b"other");
        queue.push(of(0), b"two\n");
        queue.end_line(of(0));
        queue.end_line(of(1));
        assert_eq!(all(&mut queue).len(), 4);
        queue.acknowledge(of(0), 8);
        queue.restart();
        let of_second = |offset, data: &[u8]| ToHost::Log {
            source: Stdout,
            offset: Some(offset),
            data: data.to_vec(),
            unit: Some(1),
        };
        assert_eq!(all(&mut queue), [of_second(0, b"other"), of_second(5, b"\n")]);
    }

    #[test]
    fn an_acknowledgement_of_what_was_not_sent_frees_nothing() {
        let mut queue = LogQueue::new(4096);
        queue.push(Stdout, b"one\n");
        queue.acknowledge(Stdout, u64::MAX);
        assert_eq!(all(&mut queue), [log(Stdout, 0, b"one\n")]);
    }

    #[test]
    fn an_unterminated_line_is_ended_once() {
        let mut queue = LogQueue::new(4096);
        queue.push(Stdout, b"begin\npanic");
        queue.push(Stderr, b"whole\n");
        for source in [Stdout, Stdout, Stderr] {
            queue.end_line(source);
        }
        let want =
            [log(Stdout, 0, b"begin\npanic"), log(Stderr, 0, b"whole\n"), log(Stdout, 11, b"\n")];
        assert_eq!(all(&mut queue), want);
    }
}
