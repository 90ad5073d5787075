//! The greeting: how a session with a guest begins.

use super::error::AgentError;
use super::reader::{Intake, Reader};
use crate::ports::AgentIo;
use guest_protocol::codec::{Decoder, encode, encode_in};
use guest_protocol::{HIGHEST, LOWEST, Listener, Phase, ToGuest, ToHost};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::time::Instant;

/// The hello is sent again after this long: a guest that was just resetting its
/// port may have lost it.
const HELLO_INTERVAL: Duration = Duration::from_secs(2);

pub(super) type Writer = WriteHalf<Box<dyn AgentIo>>;

/// The guest's answer to the hello.
pub(super) struct Greeting {
    /// The version that both use in this session.
    pub(super) version: u16,
    pub(super) phase: Phase,
    pub(super) listening: Vec<Listener>,
    /// In the middle of the frame after the last of `early`.
    pub(super) decoder: Decoder,
    /// Messages that followed the welcome in the same read.
    pub(super) early: Vec<ToHost>,
}

/// Sends hello until the guest answers this session. Messages before the welcome
/// belong to no session and are passed to `before`.
pub(super) async fn greet(
    reader: &mut Reader,
    writer: &mut Writer,
    session: u64,
    mut before: impl FnMut(ToHost),
) -> Result<Greeting, AgentError> {
    let hello = encode(&ToGuest::Hello { version: HIGHEST, session, lowest: LOWEST });
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 64 << 10];
    let mut again = tokio::time::interval(HELLO_INTERVAL);
    let mut intake = Intake::new(Instant::now());
    loop {
        let read = tokio::select! {
            read = reader.read(&mut buffer) => read.map_err(AgentError::Io)?,
            _ = again.tick() => {
                writer.write_all(&hello).await.map_err(AgentError::Io)?;
                continue;
            }
        };
        if read == 0 {
            return Err(AgentError::Closed);
        }
        let mut messages = Vec::new();
        decoder.feed(&buffer[..read], |message: ToHost| messages.push(message));
        // A guest may send a lot before it answers, too.
        let pause = intake.charge(read, messages.len(), Instant::now());
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let ours = |m: &ToHost| matches!(m, ToHost::Welcome { session: s, .. } if *s == session);
        let Some(at) = messages.iter().position(ours) else {
            messages.into_iter().for_each(&mut before);
            continue;
        };
        let early = messages.split_off(at + 1);
        let welcome = messages.pop();
        messages.into_iter().for_each(&mut before);
        if let Some(ToHost::Welcome { version, phase, listening, .. }) = welcome {
            return match version {
                LOWEST..=HIGHEST => Ok(Greeting { version, phase, listening, decoder, early }),
                _ => Err(AgentError::Version(version)),
            };
        }
    }
}

/// Makes a guest that has not been configured finish its work under way, so that a
/// template can be made of it.
pub(crate) async fn quiesce_for_template(
    io: Box<dyn AgentIo>,
    session: u64,
    deadline: Duration,
) -> Result<(), AgentError> {
    let timeout = tokio::time::timeout(deadline, try_quiesce(io, session)).await;
    timeout.unwrap_or(Err(AgentError::Deadline(deadline)))
}

async fn try_quiesce(io: Box<dyn AgentIo>, session: u64) -> Result<(), AgentError> {
    let (mut reader, mut writer) = tokio::io::split(io);
    let greeting = greet(&mut reader, &mut writer, session, drop).await?;
    let request = encode_in(greeting.version, &ToGuest::QuiesceForTemplate);
    let request = request.ok_or(AgentError::Version(greeting.version))?;
    if greeting.phase != Phase::AwaitingConfig {
        return Err(AgentError::NotFresh);
    }
    writer.write_all(&request).await.map_err(AgentError::Io)?;
    let (mut decoder, mut buffer) = (greeting.decoder, vec![0; 4 << 10]);
    // It was not asked before, so none of the early messages is the answer.
    let mut quiesced = false;
    while !quiesced {
        let read = reader.read(&mut buffer).await.map_err(AgentError::Io)?;
        if read == 0 {
            return Err(AgentError::Closed);
        }
        decoder.feed(&buffer[..read], |m: ToHost| quiesced |= m == ToHost::Quiesced);
    }
    Ok(())
}
