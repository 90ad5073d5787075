//! Frames as hosts and inits of each version wrote them. A host has to understand
//! a guest that an earlier release booted, so recorded frames never change: where
//! one of these tests fails, running VMs could not be taken over.

#[macro_use]
mod common;
mod v2;
mod v3;

use guest_protocol::codec::{self, Decoder, Message};
use guest_protocol::frame::Deframer;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Recorded frames of one direction by name.
fn recorded(text: &str, direction: &str) -> BTreeMap<String, Vec<u8>> {
    let frame = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [of, name, hex] = words[..] else { panic!("a line of three words: {line}") };
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
        let bytes = (0..hex.len()).step_by(2).map(byte).collect();
        (of == direction).then(|| (name.to_owned(), bytes))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(frame).collect()
}

/// Each message is written as its recorded frame, and each frame is listed.
fn written_as_recorded<M: Debug>(
    text: &str,
    direction: &str,
    messages: &[(&'static str, M)],
    encode: impl Fn(&M) -> Vec<u8>,
) {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let frames = recorded(text, direction);
    for (name, message) in messages {
        let frame = frames.get(*name).unwrap_or_else(|| panic!("no frame {direction} {name}"));
        assert_eq!(hex(&encode(message)), hex(frame), "{direction} {name} {message:?}");
    }
    assert_eq!(frames.len(), messages.len(), "frames that no message is written as");
}

fn read<M: Message>(frame: &[u8]) -> Option<M> {
    let (mut decoder, mut found) = (Decoder::default(), Vec::new());
    decoder.feed(frame, |message| found.push(message));
    assert_eq!(decoder.dropped(), 0);
    found.pop()
}

fn payload(frame: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    Deframer::default().feed(frame, |payload| found = payload.to_vec());
    found
}

const V2: &str = include_str!("../frames/v2.txt");
const V3: &str = include_str!("../frames/v3.txt");

#[test]
fn version_2_is_written_and_read_as_recorded() {
    use guest_protocol::v2::{ToGuest, ToHost, decode, encode};
    written_as_recorded(V2, "to_guest", &v2::to_guest(), encode);
    written_as_recorded(V2, "to_host", &v2::to_host(), encode);
    let (to_guest, to_host) = (recorded(V2, "to_guest"), recorded(V2, "to_host"));
    for (name, message) in v2::to_guest() {
        assert_eq!(decode::<ToGuest>(&payload(&to_guest[name])), Some(message), "{name}");
    }
    for (name, message) in v2::to_host() {
        assert_eq!(decode::<ToHost>(&payload(&to_host[name])), Some(message), "{name}");
    }
}

#[test]
fn version_3_is_written_and_read_as_recorded() {
    written_as_recorded(V3, "to_guest", &v3::to_guest(), codec::encode);
    written_as_recorded(V3, "to_host", &v3::to_host(), codec::encode);
    let (to_guest, to_host) = (recorded(V3, "to_guest"), recorded(V3, "to_host"));
    for (name, message) in v3::to_guest() {
        assert_eq!(read(&to_guest[name]), Some(message), "{name}");
    }
    for (name, message) in v3::to_host() {
        assert_eq!(read(&to_host[name]), Some(message), "{name}");
    }
}

#[test]
fn a_host_writes_to_a_version_2_guest_what_a_version_2_host_wrote() {
    let recorded = recorded(V2, "to_guest");
    let mut written = 0;
    for (name, message) in v3::to_guest() {
        // The greeting carries the host's own version, which version 2 does not look at.
        if name == "hello" {
            continue;
        }
        match codec::encode_in(2, &message) {
            Some(frame) => {
                assert_eq!(frame, recorded[name], "{name}");
                written += 1;
            }
            // Version 2 knows neither acknowledgements nor units nor counters.
            None => assert!(
                ["log_received", "read_stats"].contains(&name) || v3::is_new(name),
                "{name}"
            ),
        }
    }
    assert_eq!(written + 1, recorded.len(), "all but the greeting");
}

#[test]
fn a_host_reads_from_a_version_2_guest_what_version_3_would_send() {
    use guest_protocol::ToHost;
    let recorded = recorded(V2, "to_host");
    for (name, mut message) in v3::to_host() {
        // Version 2 has no such messages.
        if name == "stats" || v3::is_new(name) {
            continue;
        }
        match &mut message {
            ToHost::Welcome { version, .. } => *version = 2,
            ToHost::Log { offset, .. } => *offset = None,
            ToHost::ExecFailed(_, _, kind) => *kind = None,
            _ => {}
        }
        assert_eq!(read(&recorded[name]), Some(message), "{name}");
    }
}

#[test]
fn a_version_2_guest_understands_the_greeting_and_the_first_message() {
    use guest_protocol::v2::{ToGuest, decode};
    for (name, message) in v3::to_guest() {
        let seen = decode::<ToGuest>(&payload(&codec::encode(&message)));
        match name {
            "hello" => {
                let session = 0x0123_4567_89ab_cdef;
                assert_eq!(seen, Some(ToGuest::Hello { version: 3, session }));
            }
            "awake" => assert_eq!(seen, Some(ToGuest::Awake(1_764_367_200_000_000_000))),
            _ => assert_eq!(seen, None, "{name}"),
        }
    }
}
