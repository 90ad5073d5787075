//! Secret keys: algorithms of the platform's own choice of names, with which an app signs
//! and encrypts without ever holding the key.
//!
//! | type | key | signs | encrypts |
//! |---|---|---|---|
//! | `hs256`, `hs384`, `hs512` | 32, 48, 64 bytes or more | HMAC (RFC 2104, RFC 7518) | |
//! | `es256` | 32 bytes, the scalar | ECDSA on P-256, `r` and `s` (RFC 7518) | |
//! | `nacl_auth` | 32 bytes | HMAC-SHA-512-256, as NaCl's `crypto_auth` | |
//! | `nacl_sign` | 32 bytes, the seed, or 64 with the public key | Ed25519 (RFC 8032), detached | |
//! | `xaes256gcm` | 32 bytes | | XAES-256-GCM, the nonce first |
//! | `nacl_secretbox` | 32 bytes | | XSalsa20-Poly1305, the nonce first |
//! | `nacl_box` | 32 bytes | | to the public key, as libsodium's sealed boxes |

use crate::xaes;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, UnparsedPublicKey,
};
use aws_lc_rs::{constant_time, hmac};
use crypto_box::aead::rand_core::{self, CryptoRng, RngCore};
use crypto_secretbox::aead::{Aead, KeyInit};
use crypto_secretbox::{Nonce, XSalsa20Poly1305};
use zeroize::Zeroizing;

/// Bytes of most keys.
const KEY: usize = 32;
/// Bytes of the nonce of XSalsa20.
const NONCE: usize = 24;
/// Longest key of an HMAC.
const MAX_HMAC_KEY: usize = 1024;
/// What of HMAC-SHA-512 `crypto_auth` keeps.
const AUTH: usize = 32;

/// The algorithm of a secret key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// HMAC-SHA-256.
    Hs256,
    /// HMAC-SHA-384.
    Hs384,
    /// HMAC-SHA-512.
    Hs512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// XAES-256-GCM.
    Xaes256Gcm,
    /// HMAC-SHA-512-256.
    NaclAuth,
    /// X25519 and XSalsa20-Poly1305.
    NaclBox,
    /// XSalsa20-Poly1305.
    NaclSecretbox,
    /// Ed25519.
    NaclSign,
}

/// Why an operation on a secret key failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretKeyError {
    /// The key has the wrong size, or is none.
    #[error("a key of type {} {}", .0.as_str(), .0.rule())]
    BadKey(KeyType),
    /// Keys of the type cannot do this.
    #[error("a key of type {kind} cannot {what}", kind = .0.as_str(), what = .1)]
    Unable(KeyType, &'static str),
    /// Only some algorithms bind a message to other data.
    #[error("a key of type {} takes no associated data", .0.as_str())]
    NoAssociatedData(KeyType),
    /// It was not encrypted with this key, or has been changed.
    #[error("it was not encrypted with this key and associated data, or has been changed")]
    Damaged,
}

impl KeyType {
    /// All types, by name.
    pub const ALL: [Self; 9] = [
        Self::Es256,
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::NaclAuth,
        Self::NaclBox,
        Self::NaclSecretbox,
        Self::NaclSign,
        Self::Xaes256Gcm,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "hs256",
            Self::Hs384 => "hs384",
            Self::Hs512 => "hs512",
            Self::Es256 => "es256",
            Self::Xaes256Gcm => "xaes256gcm",
            Self::NaclAuth => "nacl_auth",
            Self::NaclBox => "nacl_box",
            Self::NaclSecretbox => "nacl_secretbox",
            Self::NaclSign => "nacl_sign",
        }
    }

    /// The type of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Its keys sign and verify; the others encrypt and decrypt.
    pub fn signs(self) -> bool {
        !matches!(self, Self::Xaes256Gcm | Self::NaclBox | Self::NaclSecretbox)
    }

    /// Which keys it has, for errors.
    fn rule(self) -> &'static str {
        match self {
            Self::Hs256 => "has 32 to 1024 bytes",
            Self::Hs384 => "has 48 to 1024 bytes",
            Self::Hs512 => "has 64 to 1024 bytes",
            Self::Es256 => "has 32 bytes: a scalar of P-256",
            Self::NaclSign => "has 32 bytes (a seed), or 64 with its public key behind it",
            _ => "has 32 bytes",
        }
    }

    /// Bytes of a new key.
    fn size(self) -> usize {
        match self {
            Self::Hs384 => 48,
            Self::Hs512 => 64,
            _ => KEY,
        }
    }

    fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Self::Hs256 => Some(hmac::HMAC_SHA256),
            Self::Hs384 => Some(hmac::HMAC_SHA384),
            Self::Hs512 | Self::NaclAuth => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }
}

/// A secret key.
pub struct SecretKey {
    kind: KeyType,
    /// Of a valid size; for `nacl_sign` the seed.
    key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl SecretKey {
    /// A key of these bytes.
    ///
    /// # Errors
    /// They are no key of the type.
    pub fn new(kind: KeyType, mut key: Zeroizing<Vec<u8>>) -> Result<Self, SecretKeyError> {
        let bad = SecretKeyError::BadKey(kind);
        let is_valid = match kind {
            KeyType::Hs256 | KeyType::Hs384 | KeyType::Hs512 => {
                (kind.size()..=MAX_HMAC_KEY).contains(&key.len())
            }
            KeyType::Es256 => ecdsa(&key).is_some(),
            KeyType::NaclSign if key.len() == 2 * KEY => {
                let pair = ed25519(&key[..KEY]).ok_or(bad)?;
                let is_own = pair.public_key().as_ref() == &key[KEY..];
                key.truncate(KEY);
                is_own
            }
            _ => key.len() == KEY,
        };
        if is_valid { Ok(Self { kind, key }) } else { Err(bad) }
    }

    /// A new key.
    pub fn generate(kind: KeyType, rng: &rt::Rng) -> Self {
        loop {
            // Almost every number of that size is a scalar of P-256.
            if let Ok(made) = Self::new(kind, Zeroizing::new(rng.bytes(kind.size()))) {
                return made;
            }
        }
    }

    /// Its type.
    pub fn kind(&self) -> KeyType {
        self.kind
    }

    /// Its bytes.
    pub fn expose(&self) -> &[u8] {
        &self.key
    }

    /// Its public part, if its algorithm has one; of `es256` the uncompressed point.
    pub fn public_key(&self) -> Option<Vec<u8>> {
        match self.kind {
            KeyType::Es256 => Some(ecdsa(&self.key)?.public_key().as_ref().to_vec()),
            KeyType::NaclSign => Some(ed25519(&self.key)?.public_key().as_ref().to_vec()),
            KeyType::NaclBox => Some(self.box_key().public_key().as_bytes().to_vec()),
            _ => None,
        }
    }

    /// Signs a message.
    ///
    /// # Errors
    /// The type is for encryption.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SecretKeyError> {
        let unable = SecretKeyError::Unable(self.kind, "sign");
        if let Some(algorithm) = self.kind.hmac() {
            let tag = hmac::sign(&hmac::Key::new(algorithm, &self.key), message);
            let kept = if self.kind == KeyType::NaclAuth { AUTH } else { tag.as_ref().len() };
            return Ok(tag.as_ref()[..kept].to_vec());
        }
        match self.kind {
            KeyType::Es256 => {
                let signed =
                    ecdsa(&self.key).and_then(|pair| pair.sign(&SystemRandom::new(), message).ok());
                signed.map(|signature| signature.as_ref().to_vec()).ok_or(unable)
            }
            KeyType::NaclSign => {
                let pair = ed25519(&self.key).ok_or(unable)?;
                Ok(pair.sign(message).as_ref().to_vec())
            }
            _ => Err(unable),
        }
    }

    /// Whether a signature is one of this key for the message; compared in constant time.
    ///
    /// # Errors
    /// As [`SecretKey::sign`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<bool, SecretKeyError> {
        let public = self.public_key().unwrap_or_default();
        Ok(match self.kind {
            KeyType::Es256 => {
                let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
                public.verify(message, signature).is_ok()
            }
            KeyType::NaclSign => {
                UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
            }
            kind if kind.signs() => {
                let own = self.sign(message)?;
                constant_time::verify_slices_are_equal(&own, signature).is_ok()
            }
            kind => return Err(SecretKeyError::Unable(kind, "verify signatures")),
        })
    }

    /// Encrypts a message, bound to `data` where the algorithm can.
    ///
    /// # Errors
    /// The type is for signatures, or takes no associated data.
    pub fn encrypt(
        &self,
        rng: &rt::Rng,
        message: &[u8],
        data: &[u8],
    ) -> Result<Vec<u8>, SecretKeyError> {
        self.check_data(data)?;
        let unable = SecretKeyError::Unable(self.kind, "encrypt");
        match self.kind {
            KeyType::Xaes256Gcm => {
                let nonce = nonce(rng);
                Ok([&nonce[..], &xaes::encrypt(&self.whole(), &nonce, data, message)].concat())
            }
            KeyType::NaclSecretbox => {
                let nonce = nonce(rng);
                let encrypted = self.secretbox().encrypt(Nonce::from_slice(&nonce), message);
                Ok([&nonce[..], &encrypted.map_err(|_| unable)?].concat())
            }
            KeyType::NaclBox => {
                let public = self.box_key().public_key();
                public.seal(&mut Random(rng), message).map_err(|_| unable)
            }
            _ => Err(unable),
        }
    }

    /// Decrypts what [`SecretKey::encrypt`] has made.
    ///
    /// # Errors
    /// As [`SecretKey::encrypt`], or it was not made with this key and data.
    pub fn decrypt(
        &self,
        sealed: &[u8],
        data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SecretKeyError> {
        self.check_data(data)?;
        let damaged = SecretKeyError::Damaged;
        match self.kind {
            KeyType::Xaes256Gcm => {
                let (nonce, message) =
                    sealed.split_first_chunk::<{ xaes::NONCE }>().ok_or(damaged)?;
                xaes::decrypt(&self.whole(), nonce, data, message).map_err(|_| damaged)
            }
            KeyType::NaclSecretbox => {
                let (nonce, message) = sealed.split_first_chunk::<NONCE>().ok_or(damaged)?;
                let opened = self.secretbox().decrypt(Nonce::from_slice(nonce), message);
                opened.map(Zeroizing::new).map_err(|_| damaged)
            }
            KeyType::NaclBox => {
                self.box_key().unseal(sealed).map(Zeroizing::new).map_err(|_| damaged)
            }
            kind => Err(SecretKeyError::Unable(kind, "decrypt")),
        }
    }

    fn check_data(&self, data: &[u8]) -> Result<(), SecretKeyError> {
        match data.is_empty() || self.kind.signs() || self.kind == KeyType::Xaes256Gcm {
            true => Ok(()),
            false => Err(SecretKeyError::NoAssociatedData(self.kind)),
        }
    }

    /// A key of the usual size.
    fn whole(&self) -> Zeroizing<[u8; KEY]> {
        let mut key = Zeroizing::new([0; KEY]);
        key.copy_from_slice(&self.key);
        key
    }

    fn box_key(&self) -> crypto_box::SecretKey {
        crypto_box::SecretKey::from(*self.whole())
    }

    fn secretbox(&self) -> XSalsa20Poly1305 {
        XSalsa20Poly1305::new((&*self.whole()).into())
    }
}

/// A key pair of P-256 from its scalar, by way of an `ECPrivateKey` (RFC 5915).
fn ecdsa(scalar: &[u8]) -> Option<EcdsaKeyPair> {
    const HEAD: [u8; 7] = [0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20];
    const CURVE: [u8; 12] =
        [0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    if scalar.len() != KEY {
        return None;
    }
    let der = Zeroizing::new([&HEAD[..], scalar, &CURVE].concat());
    EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).ok()
}

fn ed25519(seed: &[u8]) -> Option<Ed25519KeyPair> {
    Ed25519KeyPair::from_seed_unchecked(seed).ok()
}

fn nonce(rng: &rt::Rng) -> [u8; NONCE] {
    let mut nonce = [0; NONCE];
    nonce.copy_from_slice(&rng.bytes(NONCE));
    nonce
}

/// The injected random numbers, in the form that `crypto_box` takes them.
struct Random<'a>(&'a rt::Rng);

impl RngCore for Random<'_> {
    fn next_u32(&mut self) -> u32 {
        self.0.bits() as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0.bits()
    }

    fn fill_bytes(&mut self, to: &mut [u8]) {
        to.copy_from_slice(&self.0.bytes(to.len()));
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(to);
        Ok(())
    }
}

impl CryptoRng for Random<'_> {}

#[cfg(test)]
#[path = "secret_key_tests.rs"]
mod tests;
