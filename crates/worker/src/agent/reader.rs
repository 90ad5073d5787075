//! Reads what a guest sends. While a budget of the guest is used up its port is not
//! read: the guest waits, and costs the host nothing.

use super::greet::Reader;
use super::intake::Intake;
use guest_protocol::ToHost;
use guest_protocol::codec::Decoder;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

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
