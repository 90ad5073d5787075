//! Fuzz targets: tokens and caveats as clients send them.

use crate::{Macaroon, caveats_from_json, caveats_to_json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fuzzing::fuzz;
use serde_json::Value;

fn vectors() -> Vec<Value> {
    let vectors: Value = serde_json::from_str(include_str!("../tests/data/vectors.json")).unwrap();
    let mut found = Vec::new();
    collect(&vectors, &mut found);
    found
}

/// Every text and list of the vectors.
fn collect(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Array(all) => {
            found.push(value.clone());
            all.iter().for_each(|value| collect(value, found));
        }
        Value::Object(all) => all.values().for_each(|value| collect(value, found)),
        Value::String(_) => found.push(value.clone()),
        _ => {}
    }
}

#[test]
fn texts_of_tokens() {
    let texts = vectors();
    let texts = texts.iter().filter_map(Value::as_str).map(str::to_owned);
    let seeds: Vec<String> = texts.filter(|text| Macaroon::parse(text).is_ok()).collect();
    assert!(seeds.len() > 5, "{}", seeds.len());
    fuzz!(4000, seeds, |bytes: &[u8]| {
        let Ok(token) = Macaroon::parse(&String::from_utf8_lossy(bytes)) else { return };
        let again = Macaroon::parse(&token.to_text()).unwrap();
        assert_eq!(again.caveats(), token.caveats());
        assert!(!token.verify(b"a key that has made none of them"));
    });
}

#[test]
fn tokens_without_their_text() {
    let texts = vectors();
    let tokens =
        texts.iter().filter_map(Value::as_str).filter_map(|text| Macaroon::parse(text).ok());
    let seeds: Vec<Vec<u8>> = tokens.map(|token| body_of(&token.to_text())).collect();
    assert!(seeds.iter().any(|seed| Macaroon::decode(seed).is_ok()));
    fuzz!(10_000, seeds, |bytes: &[u8]| {
        if let Ok(token) = Macaroon::decode(bytes) {
            assert!(!token.verify(b"a key that has made none of them"));
            // What was read can be written, and is read as the same.
            let again = Macaroon::parse(&token.to_text()).unwrap();
            assert_eq!((again.caveats(), again.key_id()), (token.caveats(), token.key_id()));
        }
    });
}

fn body_of(text: &str) -> Vec<u8> {
    let encoded = text.split_once('_').map_or(text, |(_, rest)| rest);
    STANDARD.decode(encoded).unwrap_or_default()
}

#[test]
fn caveats_in_json() {
    let lists: Vec<String> =
        vectors().iter().filter(|v| v.is_array()).map(Value::to_string).collect();
    let seeds: Vec<String> =
        lists.into_iter().filter(|text| caveats_from_json(text).is_ok()).collect();
    assert!(!seeds.is_empty());
    fuzz!(4000, seeds, |bytes: &[u8]| {
        let Ok(caveats) = caveats_from_json(&String::from_utf8_lossy(bytes)) else { return };
        let again = caveats_from_json(&caveats_to_json(&caveats).to_string()).unwrap();
        assert_eq!(again, caveats);
    });
}
