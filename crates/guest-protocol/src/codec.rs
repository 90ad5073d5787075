//! Frames of the guest protocol: zero byte, COBS(postcard + CRC-32), zero byte.

use super::MAX_FRAME;
use serde::{Serialize, de::DeserializeOwned};

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// One message as bytes for the port.
///
/// # Panics
/// Never for the types of this module: they all serialize.
pub fn encode<M: Serialize>(message: &M) -> Vec<u8> {
    let mut plain = postcard::to_stdvec(message).expect("guest messages serialize");
    let sum = CRC.checksum(&plain).to_le_bytes();
    plain.extend_from_slice(&sum);
    let mut out = vec![0u8; cobs::max_encoding_length(plain.len()) + 2];
    let len = cobs::encode(&plain, &mut out[1..]);
    // out[0] is the opening zero; the byte behind the data is the closing one.
    out.truncate(len + 2);
    out[len + 1] = 0;
    out
}

/// Cuts a stream of bytes into messages. Never holds more than a frame.
#[derive(Debug, Default)]
pub struct Decoder {
    frame: Vec<u8>,
    /// The frame at hand is too long; skip to the next zero byte.
    oversized: bool,
    /// Frames that were too long or damaged.
    pub dropped: u64,
}

impl Decoder {
    /// Takes bytes as they come and gives each whole message to `each`.
    pub fn feed<M: DeserializeOwned>(&mut self, mut bytes: &[u8], mut each: impl FnMut(M)) {
        while let Some(end) = bytes.iter().position(|&b| b == 0) {
            self.extend(&bytes[..end]);
            bytes = &bytes[end + 1..];
            if let Some(message) = self.finish() {
                each(message);
            }
        }
        self.extend(bytes);
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.frame.len() + bytes.len() > cobs::max_encoding_length(MAX_FRAME + 4) {
            self.oversized = true;
            self.frame.clear();
        }
        if !self.oversized {
            self.frame.extend_from_slice(bytes);
        }
    }

    fn finish<M: DeserializeOwned>(&mut self) -> Option<M> {
        let message = match (self.oversized, self.frame.is_empty()) {
            (false, true) => return None,
            (true, _) => None,
            (false, false) => open(&mut self.frame),
        };
        self.frame.clear();
        self.oversized = false;
        self.dropped += u64::from(message.is_none());
        message
    }
}

fn open<M: DeserializeOwned>(frame: &mut [u8]) -> Option<M> {
    let len = cobs::decode_in_place(frame).ok()?;
    let (plain, sum) = frame[..len].split_last_chunk::<4>()?;
    if CRC.checksum(plain).to_le_bytes() != *sum {
        return None;
    }
    postcard::from_bytes(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    fn decode(decoder: &mut Decoder, bytes: &[u8]) -> Vec<ToHost> {
        let mut out = Vec::new();
        decoder.feed(bytes, |m| out.push(m));
        out
    }

    #[test]
    fn messages_survive_any_cut_of_the_stream() {
        let messages = [
            ToHost::Log(LogSource::Stdout, vec![0, 1, 0, 255, 0]),
            ToHost::Running { pid: 7, stages_ms: vec![("root".into(), 1.5)] },
            ToHost::Exited(Exit { code: 137, signal: 9, oom: true }),
        ];
        let stream: Vec<u8> = messages.iter().flat_map(encode).collect();
        for step in [1, 2, 3, 7, stream.len()] {
            let mut decoder = Decoder::default();
            let got: Vec<_> = stream.chunks(step).flat_map(|c| decode(&mut decoder, c)).collect();
            assert_eq!(got, messages);
            assert_eq!(decoder.dropped, 0);
        }
    }

    #[test]
    fn a_reader_that_joins_in_the_middle_finds_the_next_message() {
        let one = encode(&ToHost::LogDropped(1));
        let two = encode(&ToHost::LogDropped(2));
        let mut stream = one[one.len() / 2..].to_vec();
        stream.extend(&two);
        let mut decoder = Decoder::default();
        assert_eq!(decode(&mut decoder, &stream), [ToHost::LogDropped(2)]);
    }

    #[test]
    fn damaged_and_endless_frames_are_dropped_and_counted() {
        let mut bad = encode(&ToHost::LogDropped(7));
        bad[3] ^= 0x55;
        let mut decoder = Decoder::default();
        assert!(decode(&mut decoder, &bad).is_empty());
        assert!(decode(&mut decoder, &vec![1; 3 * MAX_FRAME]).is_empty());
        assert_eq!(decode(&mut decoder, &encode(&ToHost::LogDropped(3))), [ToHost::LogDropped(3)]);
        assert_eq!(decoder.dropped, 2);
    }
}
