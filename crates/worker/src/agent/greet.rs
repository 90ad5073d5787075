//! The greeting: how a session with a guest begins.

use super::AgentError;
use crate::ports::AgentIo;
use guest_protocol::codec::{Decoder, encode};
use guest_protocol::{Listener, Phase, ToGuest, ToHost, VERSION};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

/// The greeting is said again after this long: a guest that was just resetting
/// its port may have lost it.
const GREET_EVERY: Duration = Duration::from_secs(2);

pub(super) type Reader = ReadHalf<Box<dyn AgentIo>>;
pub(super) type Writer = WriteHalf<Box<dyn AgentIo>>;

/// What the guest answered.
pub(super) struct Greeting {
    pub(super) phase: Phase,
    pub(super) listening: Vec<Listener>,
    /// In the midst of the frame after the last of `early`.
    pub(super) decoder: Decoder,
    /// What it said right after its welcome.
    pub(super) early: Vec<ToHost>,
}

/// Greets until the guest answers this greeting. Frames of before belong to no
/// session and are given to `before`.
pub(super) async fn greet(
    reader: &mut Reader,
    writer: &mut Writer,
    session: u64,
    mut before: impl FnMut(ToHost),
) -> Result<Greeting, AgentError> {
    let hello = encode(&ToGuest::Hello { version: VERSION, session });
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 64 << 10];
    let mut again = tokio::time::interval(GREET_EVERY);
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
        let ours = |m: &ToHost| matches!(m, ToHost::Welcome { session: s, .. } if *s == session);
        let Some(at) = messages.iter().position(ours) else {
            messages.into_iter().for_each(&mut before);
            continue;
        };
        let early = messages.split_off(at + 1);
        let welcome = messages.pop();
        messages.into_iter().for_each(&mut before);
        if let Some(ToHost::Welcome { version, phase, listening, .. }) = welcome {
            return match version == VERSION {
                true => Ok(Greeting { phase, listening, decoder, early }),
                false => Err(AgentError::Version(version)),
            };
        }
    }
}

/// Has a guest that awaits its orders get ready to be made a template of.
pub(crate) async fn settle(
    io: Box<dyn AgentIo>,
    session: u64,
    deadline: Duration,
) -> Result<(), AgentError> {
    let timeout = tokio::time::timeout(deadline, try_settle(io, session)).await;
    timeout.unwrap_or(Err(AgentError::Deadline(deadline)))
}

async fn try_settle(io: Box<dyn AgentIo>, session: u64) -> Result<(), AgentError> {
    let (mut reader, mut writer) = tokio::io::split(io);
    let greeting = greet(&mut reader, &mut writer, session, drop).await?;
    if greeting.phase != Phase::AwaitingConfig {
        return Err(AgentError::NotFresh);
    }
    writer.write_all(&encode(&ToGuest::QuiesceForTemplate)).await.map_err(AgentError::Io)?;
    let (mut decoder, mut buffer) = (greeting.decoder, vec![0; 4 << 10]);
    // It has not been asked before, so nothing early can be the answer.
    let mut settled = false;
    while !settled {
        let read = reader.read(&mut buffer).await.map_err(AgentError::Io)?;
        if read == 0 {
            return Err(AgentError::Closed);
        }
        decoder.feed(&buffer[..read], |m: ToHost| settled |= m == ToHost::Quiesced);
    }
    Ok(())
}
