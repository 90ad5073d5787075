//! Tokens that the public Go package (<https://github.com/superfly/macaroon>, Apache-2.0) made,
//! and what may be done to one.

use super::*;
use crate::{Action, Resources, caveats_from_json, caveats_to_json};
use proptest::prelude::*;
use serde_json::Value;

fn vectors() -> Vec<Value> {
    serde_json::from_str(include_str!("../tests/data/vectors.json")).unwrap()
}

/// The key of the vectors.
fn key() -> Vec<u8> {
    (0..32).collect()
}

#[test]
fn tokens_of_the_go_package_are_verified_and_written_alike() {
    let mut count = 0;
    for vector in vectors() {
        let (name, text) = (&vector["name"], vector["token"].as_str().unwrap());
        let token = Macaroon::parse(text).unwrap();
        assert!(token.verify(&key()), "{name}");
        assert!(!token.verify(b"another key"), "{name}");
        assert_eq!(token.to_text(), text, "{name}");
        assert_eq!(token.location(), LOCATION);
        if vector["caveats"].is_null() {
            assert!(matches!(token.caveats(), [Caveat::ThirdParty { .. }]), "{token:?}");
            continue;
        }
        // The same caveats from their JSON, one by one, lead to the same bytes and chain.
        let caveats = caveats_from_json(&vector["caveats"].to_string()).unwrap();
        assert_eq!(token.caveats(), caveats, "{name}");
        assert_eq!(caveats_to_json(&caveats), vector["caveats"], "{name}");
        let mut bytes = Writer::default();
        bytes.array(caveats.len() * 2);
        caveats.iter().for_each(|caveat| encode(caveat, &mut bytes).unwrap());
        let hex: String = bytes.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, vector["packed"].as_str().unwrap(), "{name}");
        count += 1;
    }
    assert_eq!(count, 13);
}

#[test]
fn a_holder_narrows_a_token_without_the_key() {
    let made = Macaroon::mint(b"secret", b"kid", [7; 16], LOCATION);
    let mut narrowed = Macaroon::parse(&made.to_text()).unwrap();
    narrowed.attenuate(Caveat::Organization { id: 1, mask: Action::ALL }).unwrap();
    narrowed.attenuate(Caveat::Apps { apps: Resources::of([7], Action::READ) }).unwrap();
    let received = Macaroon::parse(&narrowed.to_text()).unwrap();
    assert!(received.verify(b"secret") && !received.verify(b"other"));
    assert_eq!((received.key_id(), received.caveats().len()), (&b"kid"[..], 2));
    let unknown = Caveat::Unknown(Kind(99));
    assert_eq!(narrowed.attenuate(unknown), Err(NotEncodable));
    assert!(!format!("{received:?}").contains("tail"));
}

#[test]
fn a_caveat_cannot_be_removed_changed_or_moved() {
    let mut token = Macaroon::mint(b"secret", b"kid", [7; 16], LOCATION);
    token.attenuate(Caveat::Action(Action::READ)).unwrap();
    token.attenuate(Caveat::IsMember {}).unwrap();
    assert!(token.verify(b"secret"));
    let mut removed = token.clone();
    removed.raw.pop();
    let mut changed = token.clone();
    changed.raw[0][1] = 31;
    let mut moved = token.clone();
    moved.raw.reverse();
    let mut proof = token.clone();
    proof.is_proof = true;
    for forged in [removed, changed, moved, proof] {
        assert!(!forged.verify(b"secret"), "{forged:?}");
    }
}

#[test]
fn a_caveat_of_an_unknown_kind_verifies_and_prohibits() {
    // `[99, "x"]`, as another client may add it.
    let mut token = Macaroon::mint(b"secret", b"kid", [7; 16], LOCATION);
    let raw = vec![99, 0xa1, b'x'];
    token.tail = sign(&token.tail, &[&[PAIR], &*raw].concat());
    token.raw.push(raw);
    let received = Macaroon::parse(&token.to_text()).unwrap();
    assert!(received.verify(b"secret"));
    assert_eq!(received.caveats(), [Caveat::Unknown(Kind(99))]);
}

#[test]
fn texts_that_are_no_tokens() {
    let good = Macaroon::mint(b"k", b"kid", [0; 16], LOCATION).to_text();
    for (text, why) in [
        ("", Malformed::Prefix),
        ("fo1_abc", Malformed::Prefix),
        ("fm2_%%%", Malformed::Base64),
        ("fm2_", Malformed::Structure),
        ("fm2_AAAA", Malformed::Structure),
        (&good[..good.len() - 4], Malformed::Structure),
        (&format!("fm2_{}", "A".repeat(20_000)), Malformed::TooLong),
    ] {
        assert_eq!(Macaroon::parse(text).unwrap_err(), why, "{text}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_fail_otherwise(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(token) = Macaroon::decode(&bytes) {
            prop_assert!(!token.verify(b"secret"));
        }
    }

    #[test]
    fn a_damaged_token_is_never_verified(vector in 0..14_usize, at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let vectors = vectors();
        let text = vectors[vector]["token"].as_str().unwrap();
        let mut bytes = STANDARD.decode(text.strip_prefix("fm2_").unwrap()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(token) = Macaroon::decode(&bytes) {
            // The location is not part of the chain.
            let same = token.location() != LOCATION;
            prop_assert!(same || !token.verify(&key()), "byte {}", at);
        }
    }
}
