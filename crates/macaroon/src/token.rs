//! Macaroons: minted with a key, narrowed without it, verified with it.
//!
//! A token is the array `[nonce, location, caveats, tail]`. The tail is a chain of HMAC-SHA256:
//! the key signs the nonce, and each result signs the next caveat, as the array of its kind and
//! body. A holder of the tail can add a caveat; only the owner of the key can remove one.
//!
//! Invariant: the chain is computed over the bytes that were received, never over an encoding
//! of our own.

use crate::body::{NotEncodable, decode, encode};
use crate::msgpack::{Reader, Unexpected, Writer};
use crate::{Caveat, Kind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Longest text of a token.
const MAX_TEXT: usize = 16 * 1024;
/// Most caveats of a token.
const MAX_CAVEATS: usize = 256;
/// Header of an array of two values.
const PAIR: u8 = 0x92;
/// Begins of texts of macaroons.
const PREFIXES: [&str; 3] = ["fm2_", "fm1r_", "fm1a_"];

/// The location of tokens that permit something, as clients of the platform expect it.
pub const LOCATION: &str = "https://api.fly.io/v1";

/// Why a text is no macaroon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It begins otherwise.
    Prefix,
    /// It is longer than any token is.
    TooLong,
    /// It is not base64.
    Base64,
    /// Its bytes are no token.
    Structure,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Prefix => "it does not begin with fm2_",
            Self::TooLong => "it is longer than 16 KiB",
            Self::Base64 => "it is not base64",
            Self::Structure => "its bytes are not those of a macaroon",
        })
    }
}

impl std::error::Error for Malformed {}

impl From<Unexpected> for Malformed {
    fn from(_: Unexpected) -> Self {
        Self::Structure
    }
}

/// A token.
#[derive(Clone)]
pub struct Macaroon {
    /// As received: the chain begins with it.
    nonce: Vec<u8>,
    key_id: Vec<u8>,
    /// It is the proof of a third party, to which nothing can be added.
    is_proof: bool,
    location: String,
    caveats: Vec<Caveat>,
    /// Kind and body of each caveat, as received.
    raw: Vec<Vec<u8>>,
    tail: Vec<u8>,
}

impl std::fmt::Debug for Macaroon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the tail: it is the secret.
        let mut shown = f.debug_struct("Macaroon");
        shown.field("location", &self.location).field("caveats", &self.caveats);
        shown.finish_non_exhaustive()
    }
}

impl Macaroon {
    /// A token that permits everything until it is narrowed. `random` makes it different from
    /// others of the same key.
    pub fn mint(key: &[u8], key_id: &[u8], random: [u8; 16], location: &str) -> Self {
        let mut nonce = Writer::default();
        nonce.array(3);
        nonce.bytes(key_id);
        nonce.bytes(&random);
        nonce.bool(false);
        let tail = sign(key, &nonce.0);
        Self {
            nonce: nonce.0,
            key_id: key_id.to_vec(),
            is_proof: false,
            location: location.to_owned(),
            caveats: Vec::new(),
            raw: Vec::new(),
            tail,
        }
    }

    /// Whether a text begins as that of a macaroon does.
    pub fn has_prefix(text: &str) -> bool {
        PREFIXES.iter().any(|prefix| text.starts_with(prefix))
    }

    /// The token with this text.
    ///
    /// # Errors
    /// It is none. That it is one proves nothing; see [`Macaroon::verify`].
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.len() > MAX_TEXT {
            return Err(Malformed::TooLong);
        }
        let body = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix));
        let bytes = STANDARD.decode(body.ok_or(Malformed::Prefix)?);
        Self::decode(&bytes.map_err(|_| Malformed::Base64)?)
    }

    /// The token with these bytes.
    ///
    /// # Errors
    /// They are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != 4 {
            return Err(Malformed::Structure);
        }
        let nonce = reader.raw()?;
        let (key_id, is_proof) = nonce_parts(nonce)?;
        let location = reader.text()?;
        let values = reader.array()?;
        if values % 2 != 0 || values / 2 > MAX_CAVEATS {
            return Err(Malformed::Structure);
        }
        let (mut caveats, mut raw) = (Vec::new(), Vec::new());
        for _ in 0..values / 2 {
            let mut ahead = reader;
            let kind = Kind(ahead.uint()?);
            let kind_bytes = reader.raw()?;
            let body = reader.raw()?;
            caveats.push(decode(kind, body));
            raw.push([kind_bytes, body].concat());
        }
        let tail = reader.bytes()?.to_vec();
        if !reader.is_at_end() {
            return Err(Malformed::Structure);
        }
        Ok(Self { nonce: nonce.to_vec(), key_id, is_proof, location, caveats, raw, tail })
    }

    /// The text of the token.
    pub fn to_text(&self) -> String {
        let mut writer = Writer::default();
        writer.array(4);
        writer.0.extend(&self.nonce);
        writer.text(&self.location);
        writer.array(self.raw.len() * 2);
        self.raw.iter().for_each(|caveat| writer.0.extend(caveat));
        writer.bytes(&self.tail);
        format!("{}{}", PREFIXES[0], STANDARD.encode(writer.0))
    }

    /// Names the key that the token was minted with.
    pub fn key_id(&self) -> &[u8] {
        &self.key_id
    }

    /// The service that the token is for.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// All that restricts the token.
    pub fn caveats(&self) -> &[Caveat] {
        &self.caveats
    }

    /// Adds a caveat. No key is needed for that.
    ///
    /// # Errors
    /// It is of a kind that cannot be added, or the token takes no more.
    pub fn attenuate(&mut self, caveat: Caveat) -> Result<(), NotEncodable> {
        if self.is_proof || self.raw.len() >= MAX_CAVEATS {
            return Err(NotEncodable);
        }
        let mut writer = Writer::default();
        encode(&caveat, &mut writer)?;
        self.tail = sign(&self.tail, &[&[PAIR], &*writer.0].concat());
        self.raw.push(writer.0);
        self.caveats.push(caveat);
        Ok(())
    }

    /// Whether the token was minted with `key`, and no caveat was removed or changed since.
    /// Compares in constant time.
    pub fn verify(&self, key: &[u8]) -> bool {
        let first = sign(key, &self.nonce);
        let chained = |tail: Vec<u8>, raw: &Vec<u8>| sign(&tail, &[&[PAIR], &**raw].concat());
        let tail = self.raw.iter().fold(first, chained);
        !self.is_proof && bool::from(tail.ct_eq(&self.tail))
    }
}

/// The key with this id, from one secret for all of them. The prefix keeps it apart from other
/// uses of the secret.
pub fn derive_key(secret: &[u8], key_id: &[u8]) -> Vec<u8> {
    sign(secret, &[b"macaroon key ", key_id].concat())
}

/// Key id of a nonce, and whether it is of a proof: `[key id, random]` or
/// `[key id, random, is proof]`.
fn nonce_parts(nonce: &[u8]) -> Result<(Vec<u8>, bool), Malformed> {
    let mut reader = Reader::new(nonce);
    let fields = reader.array()?;
    let key_id = reader.bytes()?.to_vec();
    reader.bytes()?;
    match fields {
        2 => Ok((key_id, false)),
        3 => Ok((key_id, reader.bool()?)),
        _ => Err(Malformed::Structure),
    }
}

fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
    // HMAC takes keys of every length (RFC 2104).
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
