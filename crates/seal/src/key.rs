//! The key that secrets are sealed with.

use crate::xaes;
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// Layout of a sealed value: this byte, the id of the key, the nonce, the message.
const LAYOUT: u8 = 1;
const ID: usize = 8;
const HEAD: usize = 1 + ID + xaes::NONCE;
/// Bytes of a digest: enough that two values of one secret do not share one by chance.
const DIGEST: usize = 8;

/// Names a key without revealing anything of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId([u8; ID]);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Why a sealed value cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It was sealed with another key.
    #[error(
        "it was sealed with key {sealed_with}, and this process has key {own}: restore the file \
         with that key (setting secrets.key_file) from a backup"
    )]
    OtherKey {
        /// The key that is needed.
        sealed_with: KeyId,
        /// The key of this process.
        own: KeyId,
    },
    /// It is damaged, or was sealed for another place.
    #[error("the sealed value is damaged, or belongs to something else")]
    Damaged,
    /// A later version sealed it.
    #[error("a later version has sealed it")]
    Later,
}

/// The key that seals the secrets of one data directory.
pub struct SealingKey {
    id: KeyId,
    key: Zeroizing<[u8; xaes::KEY]>,
    digests: hmac::Key,
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealingKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SealingKey {
    /// The key of these bytes, which are random.
    pub fn new(secret: Zeroizing<[u8; xaes::KEY]>) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, &*secret);
        let part =
            |purpose: &str| Zeroizing::new(hmac::sign(&root, purpose.as_bytes()).as_ref().to_vec());
        let mut id = [0; ID];
        id.copy_from_slice(&part("updraft key id")[..ID]);
        let mut key = Zeroizing::new([0; xaes::KEY]);
        key.copy_from_slice(&part("updraft sealing"));
        let digests = hmac::Key::new(hmac::HMAC_SHA256, &part("updraft digests"));
        Self { id: KeyId(id), key, digests }
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Encrypts a value that belongs to `context`. `rng` gives the nonce.
    pub fn seal(&self, rng: &rt::Rng, context: &str, value: &[u8]) -> Vec<u8> {
        let mut nonce = [0; xaes::NONCE];
        nonce.copy_from_slice(&rng.bytes(xaes::NONCE));
        let mut sealed = vec![LAYOUT];
        sealed.extend(self.id.0);
        sealed.extend(nonce);
        sealed.extend(xaes::encrypt(&self.key, &nonce, context.as_bytes(), value));
        sealed
    }

    /// The value that was sealed for `context`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (head, message) = sealed.split_at_checked(HEAD).ok_or(OpenError::Damaged)?;
        if head[0] != LAYOUT {
            return Err(OpenError::Later);
        }
        let (mut id, mut nonce) = ([0; ID], [0; xaes::NONCE]);
        id.copy_from_slice(&head[1..1 + ID]);
        nonce.copy_from_slice(&head[1 + ID..]);
        if id != self.id.0 {
            return Err(OpenError::OtherKey { sealed_with: KeyId(id), own: self.id });
        }
        let opened = xaes::decrypt(&self.key, &nonce, context.as_bytes(), message);
        opened.map_err(|xaes::Damaged| OpenError::Damaged)
    }

    /// A short text that is the same for the same value, in hex. It depends on the key:
    /// without it values cannot be tried out.
    pub fn digest(&self, context: &str, value: &[u8]) -> String {
        let mut digest = hmac::Context::with_key(&self.digests);
        digest.update(&(context.len() as u64).to_be_bytes());
        digest.update(context.as_bytes());
        digest.update(value);
        hex::encode(&digest.sign().as_ref()[..DIGEST])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::new(Zeroizing::new([byte; xaes::KEY]))
    }

    #[test]
    fn a_value_opens_with_its_key_and_in_its_place_only() {
        let (rng, own) = (rt::Rng::seeded(1), key(1));
        let sealed = own.seal(&rng, "app 1/A", b"hidden");
        assert!(!sealed.windows(6).any(|part| part == b"hidden"));
        assert_ne!(sealed, own.seal(&rng, "app 1/A", b"hidden"), "another nonce each time");
        assert_eq!(**own.open("app 1/A", &sealed).unwrap(), *b"hidden");
        assert_eq!(own.open("app 1/B", &sealed), Err(OpenError::Damaged));
        assert_eq!(own.open("app 1/A", &sealed[..HEAD + 3]), Err(OpenError::Damaged));
        assert_eq!(own.open("app 1/A", &[]), Err(OpenError::Damaged));
        let other = key(2);
        let refused = other.open("app 1/A", &sealed).unwrap_err();
        assert_eq!(refused, OpenError::OtherKey { sealed_with: own.id(), own: other.id() });
        assert!(refused.to_string().contains(&own.id().to_string()), "{refused}");
        let mut later = sealed;
        later[0] = 2;
        assert_eq!(own.open("app 1/A", &later), Err(OpenError::Later));
        assert_eq!(format!("{own:?}"), format!("SealingKey {{ id: {:?}, .. }}", own.id()));
    }

    #[test]
    fn a_digest_depends_on_value_place_and_key() {
        let digest = key(1).digest("A", b"x");
        assert_eq!(digest.len(), 2 * DIGEST);
        assert_eq!(digest, key(1).digest("A", b"x"));
        for other in [key(1).digest("A", b"y"), key(1).digest("B", b"x"), key(2).digest("A", b"x")]
        {
            assert_ne!(digest, other);
        }
        assert_ne!(key(1).digest("A", b"Bx"), key(1).digest("AB", b"x"));
    }
}
