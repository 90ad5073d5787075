//! Messages as frames, in the present version of the protocol and in those
//! before it that are still supported.
//!
//! A payload shows its version by its first byte: a message of version 2 is
//! postcard and begins with the number of its variant, below 32; one of
//! version 3 is CBOR and begins with an array. Two messages of the host are sent
//! before the version is known and keep the form of version 2 permanently:
//! [`ToGuest::Hello`] (with the lowest version behind it, where version 2 does
//! not look) and [`ToGuest::Awake`].
//!
//! A message that is whole (its checksum is right) and not understood is one of
//! a later version: it is counted and ignored.

use crate::frame::{Deframer, seal};
use crate::{HIGHEST, Phase, ToGuest, ToHost, v2};
use minicbor::{Decode, Encode};

/// Numbers of variants in version 2.
const V2_HELLO: u8 = 0;
const V2_WELCOME: u8 = 0;
const V2_AWAKE: u8 = 13;
/// Payloads that begin below this are of version 2.
const V2_VARIANTS: u8 = 32;

/// A message that can be sent and received.
pub trait Message: Sized {
    /// The payload in the present version.
    fn payload(&self) -> Vec<u8>;
    /// Reads a payload; `None` if it is not understood.
    fn parse(payload: &[u8]) -> Option<Self>;
}

/// One message as a frame of the present version.
pub fn encode<M: Message>(message: &M) -> Vec<u8> {
    seal(message.payload())
}

/// One message as a frame of `version`; `None` if that version is not supported
/// here or has no such message.
pub fn encode_in(version: u16, message: &ToGuest) -> Option<Vec<u8>> {
    match version {
        HIGHEST => Some(encode(message)),
        v2::VERSION => Some(v2::encode(&v2::ToGuest::from_present(message.clone())?)),
        _ => None,
    }
}

/// Cuts a stream of bytes into messages. Never holds more than one frame.
#[derive(Debug, Default)]
pub struct Decoder {
    deframer: Deframer,
    /// Messages that were whole and not understood.
    pub unknown: u64,
}

impl Decoder {
    /// Takes bytes as they arrive and passes each message to `each`.
    pub fn feed<M: Message>(&mut self, bytes: &[u8], mut each: impl FnMut(M)) {
        let unknown = &mut self.unknown;
        self.deframer.feed(bytes, |payload| match M::parse(payload) {
            Some(message) => each(message),
            None => *unknown += 1,
        });
    }

    /// Frames that were too long or damaged.
    pub fn dropped(&self) -> u64 {
        self.deframer.dropped
    }
}

impl Message for ToGuest {
    fn payload(&self) -> Vec<u8> {
        match self {
            Self::Hello { version, session, lowest } => {
                postcard(&(V2_HELLO, version, session, lowest))
            }
            Self::Awake(now) => postcard(&(V2_AWAKE, now)),
            other => cbor(other),
        }
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        match *payload.first()? {
            V2_HELLO => {
                let ((_, version, session), rest) =
                    postcard::take_from_bytes::<(u8, u16, u64)>(payload).ok()?;
                // A host of version 2 names no lowest version.
                let lowest = postcard::from_bytes(rest).unwrap_or(version);
                Some(Self::Hello { version, session, lowest })
            }
            V2_AWAKE => postcard::from_bytes::<(u8, i64)>(payload).ok().map(|m| Self::Awake(m.1)),
            // The host uses the version that the greeting agreed on.
            first if first < V2_VARIANTS => None,
            _ => minicbor::decode(payload).ok(),
        }
    }
}

impl Message for ToHost {
    fn payload(&self) -> Vec<u8> {
        cbor(self)
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        let message = match *payload.first()? {
            ..V2_VARIANTS => v2::decode::<v2::ToHost>(payload).map(Into::into),
            _ => minicbor::decode(payload).ok(),
        };
        // A welcome of a version that has changed in other ways still has its version in
        // the same place.
        match message {
            Some(Self::Welcome { version: v2::VERSION..=HIGHEST, .. }) => message,
            None | Some(Self::Welcome { .. }) => foreign_welcome(payload),
            other => other,
        }
    }
}

/// The fields that every welcome begins with.
#[derive(Encode, Decode)]
#[cbor(map)]
struct WelcomeHead {
    #[n(0)]
    version: u16,
    #[n(1)]
    session: u64,
}

fn foreign_welcome(payload: &[u8]) -> Option<ToHost> {
    let (version, session) = match *payload.first()? {
        V2_WELCOME => {
            let (_, version, session) = postcard::from_bytes::<(u8, u16, u64)>(payload).ok()?;
            (version, session)
        }
        first if first < V2_VARIANTS => return None,
        _ => {
            let mut decoder = minicbor::Decoder::new(payload);
            let welcome = decoder.array().ok()? == Some(2) && decoder.u32().ok()? == 0;
            let head: WelcomeHead = welcome.then(|| decoder.decode().ok()).flatten()?;
            (head.version, head.session)
        }
    };
    Some(ToHost::Welcome { version, session, phase: Phase::Unknown, listening: Vec::new() })
}

fn cbor<M: Encode<()>>(message: &M) -> Vec<u8> {
    minicbor::to_vec(message).expect("a Vec takes all that is written to it")
}

fn postcard<M: serde::Serialize>(message: &M) -> Vec<u8> {
    postcard::to_stdvec(message).expect("plain numbers serialize")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Exit, LogSource};

    fn decode<M: Message>(frame: &[u8]) -> (Vec<M>, u64) {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        decoder.feed(frame, |m| out.push(m));
        assert_eq!(decoder.dropped(), 0);
        (out, decoder.unknown)
    }

    #[test]
    fn a_message_of_a_later_version_is_ignored_and_the_next_one_is_read() {
        // [200, {0: 1}]: a variant that does not exist.
        let mut stream = seal(vec![0x82, 0x18, 200, 0xa1, 0, 1]);
        stream.extend(encode(&ToHost::LogDropped(3)));
        assert_eq!(decode::<ToHost>(&stream), (vec![ToHost::LogDropped(3)], 1));
        assert_eq!(decode::<ToGuest>(&seal(vec![0x82, 0x18, 200, 0xa0])), (vec![], 1));
        assert_eq!(decode::<ToGuest>(&seal(vec![])), (vec![], 1));
    }

    #[test]
    fn a_field_of_a_later_version_is_ignored() {
        // Exited({0: {0: code, 1: signal, 2: oom}}) with a field 9 in both maps.
        let mut e = minicbor::Encoder::new(Vec::new());
        e.array(2).unwrap().u32(4).unwrap().map(2).unwrap();
        e.u32(0).unwrap().map(4).unwrap();
        e.u32(0).unwrap().i32(3).unwrap().u32(1).unwrap().i32(0).unwrap();
        e.u32(2).unwrap().bool(false).unwrap().u32(9).unwrap().str("later").unwrap();
        e.u32(9).unwrap().array(1).unwrap().null().unwrap();
        let want = ToHost::Exited(Exit { code: 3, signal: 0, oom: false });
        assert_eq!(decode::<ToHost>(&seal(e.into_writer())), (vec![want], 0));
    }

    #[test]
    fn a_welcome_of_any_version_has_its_version() {
        let unknown = |version| ToHost::Welcome {
            version,
            session: 7,
            phase: Phase::Unknown,
            listening: vec![],
        };
        // [0, {0: 9, 1: 7, 2: "elsewhere"}]
        let later = [&[0x82, 0, 0xa3, 0, 9, 1, 7, 2, 0x69][..], b"elsewhere"].concat();
        assert_eq!(decode::<ToHost>(&seal(later)), (vec![unknown(9)], 0));
        assert_eq!(decode::<ToHost>(&seal(vec![0, 1, 7, 0xff])), (vec![unknown(1)], 0));
    }

    #[test]
    fn a_hello_of_version_2_supports_version_2_only() {
        let hello = ToGuest::Hello { version: 2, session: 7, lowest: 2 };
        assert_eq!(decode::<ToGuest>(&seal(vec![0, 2, 7])), (vec![hello], 0));
    }

    #[test]
    fn a_version_2_guest_is_sent_what_it_knows_only() {
        assert!(encode_in(2, &ToGuest::PowerOff).is_some());
        assert_eq!(encode_in(2, &ToGuest::LogReceived(LogSource::Stdout, 7, None)), None);
        assert_eq!(encode_in(4, &ToGuest::PowerOff), None);
    }
}
