//! Fuzz targets: what arrives over the agent port, from either side.

use crate::codec::{Decoder, Message, encode};
use crate::{MAX_FRAME, ToGuest, ToHost};
use fuzzing::fuzz;

const RECORDED: [&str; 2] =
    [include_str!("../tests/frames/v2.txt"), include_str!("../tests/frames/v3.txt")];

/// The recorded frames to one side, and all of them in one stream.
fn recorded(to: &str) -> Vec<Vec<u8>> {
    let lines = RECORDED.iter().flat_map(|text| text.lines());
    let of = lines.filter_map(|line| line.strip_prefix(to)?.trim().split_once(' '));
    let mut frames: Vec<Vec<u8>> = of.map(|(_, hex)| bytes(hex)).collect();
    assert!(frames.len() > 10, "{to}");
    frames.push(frames.concat());
    frames
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.trim().len()).step_by(2).map(byte).collect()
}

/// Decodes a stream that arrives in parts of this size.
fn decoded<M: Message>(stream: &[u8], part: usize) -> Vec<M> {
    let (mut decoder, mut messages) = (Decoder::default(), Vec::new());
    for part in stream.chunks(part) {
        decoder.feed(part, |message| messages.push(message));
    }
    messages
}

/// A message is the same however its bytes arrive, and survives its own encoding.
fn check<M: Message + PartialEq + std::fmt::Debug>(stream: &[u8]) {
    let messages: Vec<M> = decoded(stream, MAX_FRAME);
    assert_eq!(decoded::<M>(stream, 1), messages);
    for message in messages {
        let frame = encode(&message);
        assert_eq!(decoded::<M>(&frame, 7), [message]);
    }
}

#[test]
fn frames_of_a_guest() {
    fuzz!(8000, recorded("to_host"), check::<ToHost>);
}

#[test]
fn frames_of_a_host() {
    fuzz!(8000, recorded("to_guest"), check::<ToGuest>);
}

/// The checksum keeps edits of a frame from the parser: here they are made below it.
#[test]
fn payloads_of_a_guest() {
    let seeds: Vec<Vec<u8>> = recorded("to_host")
        .iter()
        .flat_map(|frame| decoded::<ToHost>(frame, MAX_FRAME))
        .map(|message| message.payload())
        .collect();
    fuzz!(20_000, seeds, |payload: &[u8]| {
        if let Some(message) = ToHost::parse(payload) {
            assert_eq!(ToHost::parse(&message.payload()), Some(message));
        }
    });
}
