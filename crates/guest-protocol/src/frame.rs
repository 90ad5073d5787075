//! Frames on the port: a zero byte, COBS(payload + CRC-32C), a zero byte.
//!
//! The same in every version of the protocol. A zero byte begins and ends a
//! frame, so a reader that joins in the middle of a stream skips to the next one.

use crate::MAX_FRAME;

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// Makes one frame of a payload.
pub fn seal(mut payload: Vec<u8>) -> Vec<u8> {
    let sum = CRC.checksum(&payload).to_le_bytes();
    payload.extend_from_slice(&sum);
    let mut out = vec![0u8; cobs::max_encoding_length(payload.len()) + 2];
    let len = cobs::encode(&payload, &mut out[1..]);
    // out[0] is the opening zero; the byte behind the data is the closing one.
    out.truncate(len + 2);
    out[len + 1] = 0;
    out
}

/// Cuts a stream of bytes into payloads. Never holds more than one frame.
#[derive(Debug, Default)]
pub struct Deframer {
    frame: Vec<u8>,
    /// The current frame is too long; skip to the next zero byte.
    oversized: bool,
    /// Frames that were too long or damaged.
    pub dropped: u64,
}

impl Deframer {
    /// Takes bytes as they arrive and passes each whole payload to `each`.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|&b| b == 0) {
            self.extend(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.finish(&mut each);
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

    fn finish(&mut self, each: &mut impl FnMut(&[u8])) {
        let between_frames = self.frame.is_empty() && !self.oversized;
        if !between_frames {
            match open(&mut self.frame).filter(|_| !self.oversized) {
                Some(payload) => each(payload),
                None => self.dropped += 1,
            }
        }
        self.frame.clear();
        self.oversized = false;
    }
}

fn open(frame: &mut [u8]) -> Option<&[u8]> {
    let len = cobs::decode_in_place(frame).ok()?;
    let (payload, sum) = frame[..len].split_last_chunk::<4>()?;
    (CRC.checksum(payload).to_le_bytes() == *sum).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(deframer: &mut Deframer, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        deframer.feed(bytes, |payload| out.push(payload.to_vec()));
        out
    }

    #[test]
    fn payloads_survive_any_cut_of_the_stream() {
        let sent = [vec![0, 1, 0, 255, 0], vec![], vec![7; 1000]];
        let stream: Vec<u8> = sent.iter().cloned().flat_map(seal).collect();
        for step in [1, 2, 3, 7, stream.len()] {
            let mut deframer = Deframer::default();
            let got: Vec<_> =
                stream.chunks(step).flat_map(|c| payloads(&mut deframer, c)).collect();
            assert_eq!(got, sent);
            assert_eq!(deframer.dropped, 0);
        }
    }

    #[test]
    fn a_reader_that_joins_in_the_middle_finds_the_next_frame() {
        let one = seal(vec![1; 10]);
        let mut stream = one[one.len() / 2..].to_vec();
        stream.extend(seal(vec![2; 10]));
        assert_eq!(payloads(&mut Deframer::default(), &stream), [vec![2; 10]]);
    }

    #[test]
    fn damaged_and_endless_frames_are_dropped_and_counted() {
        let mut bad = seal(vec![7; 4]);
        bad[3] ^= 0x55;
        let mut deframer = Deframer::default();
        assert!(payloads(&mut deframer, &bad).is_empty());
        assert!(payloads(&mut deframer, &vec![1; 3 * MAX_FRAME]).is_empty());
        assert_eq!(payloads(&mut deframer, &seal(vec![3])), [vec![3]]);
        assert_eq!(deframer.dropped, 2);
    }
}
