//! Keys that sign tokens: RSA with SHA-256, which every verifier supports.
//!
//! Rotation: a key signs for [`SIGNS_MS`]. Its successor is published [`AHEAD_MS`] before it
//! signs, and it stays published [`AFTER_MS`] after its last signature, so that verifiers that
//! keep the list of keys for a day always find the one they need.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const DAY_MS: u64 = 24 * 3600 * 1000;
/// Time for which a key signs.
const SIGNS_MS: u64 = 90 * DAY_MS;
/// Time for which a key is published before it signs.
const AHEAD_MS: u64 = 2 * DAY_MS;
/// Time for which a key is published after it has signed.
const AFTER_MS: u64 = 2 * DAY_MS;

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("use the keys of {path}")]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// The file has something else in it.
    #[error("read the keys of {path}: {why}")]
    Content {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No key could be made, or nothing be signed with it.
    #[error("the cryptographic library failed")]
    Crypto,
}

/// The keys of a platform, kept in a file that its owner alone may read. Cheap to clone.
#[derive(Clone)]
pub struct OidcKeys(Arc<Inner>);

struct Inner {
    path: PathBuf,
    keys: Mutex<Vec<Key>>,
}

struct Key {
    id: String,
    /// The time from which on it signs, milliseconds since the epoch.
    signs_from_ms: u64,
    pair: KeyPair,
}

/// A key in the file.
#[derive(Serialize, Deserialize)]
struct Stored {
    signs_from_ms: u64,
    /// PKCS #8 in base64.
    pkcs8: String,
}

impl std::fmt::Debug for OidcKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OidcKeys").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl OidcKeys {
    /// The keys of a file, which is made at the first use if it is not there.
    ///
    /// # Errors
    /// The file has something else in it, or others may read it.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let keys = match std::fs::read(path) {
            Ok(bytes) => {
                refuse_readable(path)?;
                parse(path, &bytes)?
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(err) => return Err(KeyError::File { path: path.into(), err }),
        };
        Ok(Self(Arc::new(Inner { path: path.into(), keys: Mutex::new(keys) })))
    }

    /// Signs a text with the key of this time; the id of the key, and the signature.
    ///
    /// # Errors
    /// A key is due and cannot be made or written.
    pub(super) fn sign(
        &self,
        now_ms: u64,
        text: impl FnOnce(&str) -> String,
    ) -> Result<(String, Vec<u8>), KeyError> {
        let mut keys = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        self.rotate(&mut keys, now_ms)?;
        let key = signer(&keys, now_ms).ok_or(KeyError::Crypto)?;
        let text = text(&key.id);
        let mut signature = vec![0; key.pair.public_modulus_len()];
        key.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| KeyError::Crypto)?;
        Ok((text, signature))
    }

    /// The public keys, as RFC 7517 has them.
    ///
    /// # Errors
    /// As [`OidcKeys::sign`].
    pub(super) fn public(&self, now_ms: u64) -> Result<Value, KeyError> {
        let mut keys = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        self.rotate(&mut keys, now_ms)?;
        let shown: Vec<Value> = keys.iter().map(jwk).collect();
        Ok(json!({ "keys": shown }))
    }

    /// Makes the key that is due and removes those that are not needed any more.
    fn rotate(&self, keys: &mut Vec<Key>, now_ms: u64) -> Result<(), KeyError> {
        let times: Vec<u64> = keys.iter().map(|key| key.signs_from_ms).collect();
        let (due, needed_from) = plan(&times, now_ms);
        if due.is_none() && times.iter().all(|time| *time >= needed_from) {
            return Ok(());
        }
        let made = due.map(|signs_from_ms| {
            let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::Crypto)?;
            Ok(Key { id: id(&pair), signs_from_ms, pair })
        });
        let made = made.transpose()?;
        let is_needed = |key: &Key| key.signs_from_ms >= needed_from;
        let kept = keys.iter().chain(&made).filter(|key| is_needed(key));
        let stored: Vec<Stored> = kept.map(stored).collect::<Result<_, KeyError>>()?;
        let bytes = serde_json::to_vec(&stored).expect("plain data");
        // Before the first signature with it: verifiers must find the key after a crash. A key
        // that is not in the file is not used.
        rt::fs::write_atomic(&self.0.path, &bytes, 0o600)
            .map_err(|err| KeyError::File { path: self.0.path.clone(), err })?;
        keys.extend(made);
        keys.retain(is_needed);
        Ok(())
    }
}

/// From the times at which the keys begin to sign: the time for a key that is to be made, and
/// the oldest beginning of a key that is still needed.
fn plan(times: &[u64], now_ms: u64) -> (Option<u64>, u64) {
    let begun = times.iter().copied().filter(|time| *time <= now_ms).max();
    let next = times.iter().copied().filter(|time| *time > now_ms).min();
    let due = match (begun, next) {
        // The first one of all, or the clock was set back.
        (None, _) => Some(now_ms),
        (Some(begun), None) if now_ms + AHEAD_MS >= begun + SIGNS_MS => {
            // After a long pause it is published late, but never signs at once.
            Some((begun + SIGNS_MS).max(now_ms + AHEAD_MS))
        }
        _ => None,
    };
    // A key is needed until the one after it has signed for a while.
    let successor = times.iter().copied().filter(|time| time + AFTER_MS <= now_ms).max();
    (due, successor.unwrap_or(0))
}

fn signer(keys: &[Key], now_ms: u64) -> Option<&Key> {
    keys.iter().filter(|key| key.signs_from_ms <= now_ms).max_by_key(|key| key.signs_from_ms)
}

/// Refuses a file that others than its owner may use.
fn refuse_readable(path: &Path) -> Result<(), KeyError> {
    let about = std::fs::metadata(path).map_err(|err| KeyError::File { path: path.into(), err })?;
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let why = format!("its mode is {mode:o}: others may read the keys; make it 600");
    Err(KeyError::Content { path: path.into(), why })
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Key>, KeyError> {
    let wrong = |why: String| KeyError::Content { path: path.into(), why };
    let stored: Vec<Stored> =
        serde_json::from_slice(bytes).map_err(|err| wrong(err.to_string()))?;
    let key = |stored: Stored| {
        let der = STANDARD.decode(&stored.pkcs8).map_err(|err| wrong(err.to_string()))?;
        let pair = KeyPair::from_pkcs8(&der).map_err(|err| wrong(err.to_string()))?;
        Ok(Key { id: id(&pair), signs_from_ms: stored.signs_from_ms, pair })
    };
    stored.into_iter().map(key).collect()
}

fn stored(key: &Key) -> Result<Stored, KeyError> {
    let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key.pair)
        .map_err(|_| KeyError::Crypto)?;
    Ok(Stored { signs_from_ms: key.signs_from_ms, pkcs8: STANDARD.encode(der.as_ref()) })
}

/// Names a key by its modulus.
fn id(pair: &KeyPair) -> String {
    let modulus = pair.public_key().modulus();
    let digest = Sha256::digest(modulus.big_endian_without_leading_zero());
    URL_SAFE_NO_PAD.encode(&digest[..16])
}

fn jwk(key: &Key) -> Value {
    let public = key.pair.public_key();
    let (modulus, exponent) = (public.modulus(), public.exponent());
    json!({
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": key.id,
        "n": URL_SAFE_NO_PAD.encode(modulus.big_endian_without_leading_zero()),
        "e": URL_SAFE_NO_PAD.encode(exponent.big_endian_without_leading_zero()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_key_is_published_before_it_signs_and_the_former_after() {
        let start = 1_700_000_000_000;
        assert_eq!(plan(&[], start), (Some(start), 0));
        assert_eq!(plan(&[start], start + 1), (None, 0));
        let before = start + SIGNS_MS - AHEAD_MS;
        assert_eq!(plan(&[start], before - 1).0, None);
        let next = start + SIGNS_MS;
        assert_eq!(plan(&[start], before).0, Some(next));
        // Both are needed until the new one has signed for a while.
        assert_eq!(plan(&[start, next], next - 1), (None, start));
        assert_eq!(plan(&[start, next], next + AFTER_MS - 1), (None, start));
        assert_eq!(plan(&[start, next], next + AFTER_MS), (None, next));
        // After a year without a token.
        let late = start + 4 * SIGNS_MS;
        assert_eq!(plan(&[start], late).0, Some(late + AHEAD_MS));
        // The clock was set back.
        assert_eq!(plan(&[start], start - 1).0, Some(start - 1));
    }

    #[test]
    fn keys_are_kept_in_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("oidc-keys");
        let keys = OidcKeys::open(&path).unwrap();
        let (text, signature) = keys.sign(1000, |id| format!("signed by {id}")).unwrap();
        let public = keys.public(1000).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = OidcKeys::open(&path).unwrap();
        assert_eq!(again.public(1000).unwrap(), public);
        assert_eq!(again.sign(1000, |id| format!("signed by {id}")).unwrap(), (text, signature));
        std::fs::write(&path, "[]]").unwrap();
        assert!(OidcKeys::open(&path).is_err());
        assert!(!format!("{keys:?}").contains("pkcs8"));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("oidc-keys");
        OidcKeys::open(&path).unwrap().public(1000).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let err = OidcKeys::open(&path).unwrap_err().to_string();
            assert!(err.contains(&format!("its mode is {mode:o}")), "{err}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_written_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys").join("oidc-keys");
        let keys = OidcKeys::open(&path).unwrap();
        for _ in 0..2 {
            assert!(keys.sign(1000, str::to_owned).is_err());
            assert!(keys.public(1000).is_err());
        }
        std::fs::create_dir(dir.path().join("keys")).unwrap();
        let public = keys.public(1000).unwrap();
        assert_eq!(OidcKeys::open(&path).unwrap().public(1000).unwrap(), public);
    }
}
