//! Reads what a guest sends. While a budget of the guest is used up its port is not
//! read: the guest waits, and costs the host nothing.

use crate::ports::AgentIo;
use guest_protocol::ToHost;
use guest_protocol::codec::Decoder;
use std::time::Duration;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::time::Instant;

pub(super) type Reader = ReadHalf<Box<dyn AgentIo>>;

/// Takes the messages of a session.
pub(super) trait Receiver: Send + Sync {
    /// Acts on one message. Returns how many of its bytes were under credit.
    fn handle(&self, message: ToHost) -> impl Future<Output = usize> + Send;
    /// The port is closed.
    fn closed(&self) -> impl Future<Output = ()> + Send;
}

/// Reads until the port is closed.
pub(super) async fn run(
    receiver: impl Receiver,
    mut reader: Reader,
    mut decoder: Decoder,
    early: Vec<ToHost>,
) {
    for message in early {
        receiver.handle(message).await;
    }
    let mut intake = Intake::new(Instant::now());
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = reader.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        let mut messages = Vec::new();
        decoder.feed(&buffer[..read], |message: ToHost| messages.push(message));
        let (count, mut credited) = (messages.len(), 0);
        for message in messages {
            credited += receiver.handle(message).await;
        }
        let pause = intake.charge(read.saturating_sub(credited), count, Instant::now());
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    receiver.closed().await;
}

/// Bytes per second, without the output of execs, which has credit of its own.
const BYTES: f64 = 2.0 * 1024.0 * 1024.0;
/// Messages per second.
const MESSAGES: f64 = 2000.0;
/// Seconds of either that may come at once.
const BURST: f64 = 2.0;

/// The budgets of one guest.
#[derive(Debug)]
pub(super) struct Intake {
    bytes: Bucket,
    messages: Bucket,
}

impl Intake {
    pub(super) fn new(now: Instant) -> Self {
        Self { bytes: Bucket::new(BYTES, now), messages: Bucket::new(MESSAGES, now) }
    }

    /// Charges what was read. Returns how long not to read on.
    pub(super) fn charge(&mut self, bytes: usize, messages: usize, now: Instant) -> Duration {
        self.bytes.charge(bytes as f64, now).max(self.messages.charge(messages as f64, now))
    }
}

/// A token bucket that may go into debt, since a read is charged afterwards.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: f64, now: Instant) -> Self {
        Self { rate, left: rate * BURST, at: now }
    }

    fn charge(&mut self, amount: f64, now: Instant) -> Duration {
        let gained = self.rate * now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + gained).min(self.rate * BURST) - amount;
        self.at = now;
        Duration::from_secs_f64((-self.left).max(0.0) / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_the_rest_comes_at_the_rate() {
        let began = Instant::now();
        let mut intake = Intake::new(began);
        assert_eq!(intake.charge(4 << 20, 4000, began), Duration::ZERO);
        assert_eq!(intake.charge(2 << 20, 0, began), Duration::from_secs(1));
        assert_eq!(intake.charge(0, 500, began), Duration::from_secs(1));
        let later = began + Duration::from_secs(1);
        assert_eq!(intake.charge(0, 2500, later), Duration::from_millis(500));
        // It never saves more than a burst.
        let later = began + Duration::from_secs(3600);
        assert_eq!(intake.charge(5 << 20, 0, later), Duration::from_millis(500));
    }
}
