//! XAES-256-GCM: AES-256-GCM with nonces of 24 bytes, which may be random for any
//! number of messages (<https://c2sp.org/XAES-256-GCM>).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_256, EncryptingKey, UnboundCipherKey};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a key.
pub const KEY: usize = 32;
/// Bytes of a nonce.
pub const NONCE: usize = 24;
/// Bytes that a message grows by, beside its nonce.
pub const TAG: usize = 16;

const BLOCK: usize = 16;

/// The message is not what was encrypted with this key, nonce and associated data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message was not encrypted with this key, or has been changed")]
pub struct Damaged;

/// Encrypts and appends the tag.
pub fn encrypt(key: &[u8; KEY], nonce: &[u8; NONCE], data: &[u8], plain: &[u8]) -> Vec<u8> {
    let (key, nonce) = derive(key, nonce);
    let mut message = plain.to_vec();
    key.seal_in_place_append_tag(nonce, Aad::from(data), &mut message)
        .expect("AES-256-GCM encrypts what fits into memory");
    message
}

/// Decrypts a message with its tag.
///
/// # Errors
/// See [`Damaged`].
pub fn decrypt(
    key: &[u8; KEY],
    nonce: &[u8; NONCE],
    data: &[u8],
    message: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Damaged> {
    let (key, nonce) = derive(key, nonce);
    let mut message = Zeroizing::new(message.to_vec());
    let length =
        key.open_in_place(nonce, Aad::from(data), &mut message).map_err(|_| Damaged)?.len();
    message.truncate(length);
    Ok(message)
}

/// The key and nonce of AES-256-GCM for one message: the first half of the nonce goes
/// into the key (CMAC as a key derivation function, NIST SP 800-108r1), the second is the nonce.
fn derive(key: &[u8; KEY], nonce: &[u8; NONCE]) -> (LessSafeKey, Nonce) {
    let block_cipher = UnboundCipherKey::new(&AES_256, key).and_then(EncryptingKey::ecb);
    let block_cipher = block_cipher.expect("a key of 32 bytes");
    let encrypt = |block: &mut [u8; BLOCK]| {
        block_cipher.encrypt(block).expect("a whole block");
    };
    // The subkey of CMAC for whole blocks: the encrypted zero block, doubled in GF(2^128).
    let mut zero = [0; BLOCK];
    encrypt(&mut zero);
    let mut subkey = (u128::from_be_bytes(zero) << 1).to_be_bytes();
    subkey[BLOCK - 1] ^= (zero[0] >> 7) * 0b1000_0111;
    let mut derived = Zeroizing::new([0; KEY]);
    for (counter, half) in [1, 2].into_iter().zip(derived.chunks_exact_mut(BLOCK)) {
        let mut block = [0, counter, b'X', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        block[4..].copy_from_slice(&nonce[..12]);
        block.iter_mut().zip(subkey).for_each(|(byte, key)| *byte ^= key);
        encrypt(&mut block);
        half.copy_from_slice(&block);
        block.zeroize();
    }
    zero.zeroize();
    subkey.zeroize();
    let mut rest = [0; 12];
    rest.copy_from_slice(&nonce[12..]);
    let key = UnboundKey::new(&AES_256_GCM, &*derived).expect("a key of 32 bytes");
    (LessSafeKey::new(key), Nonce::assume_unique_for_key(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors of the specification.
    #[test]
    fn the_vectors_of_the_specification() {
        let nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX";
        for (key, data, expected) in [
            (1, &b""[..], "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
            (
                3,
                b"c2sp.org/XAES-256-GCM",
                "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
            ),
        ] {
            let key = [key; KEY];
            let message = encrypt(&key, nonce, data, b"XAES-256-GCM");
            assert_eq!(hex::encode(&message), expected);
            assert_eq!(**decrypt(&key, nonce, data, &message).unwrap(), *b"XAES-256-GCM");
        }
    }

    #[test]
    fn what_was_changed_does_not_decrypt() {
        let (key, nonce) = ([7; KEY], [9; NONCE]);
        let message = encrypt(&key, &nonce, b"of", b"text");
        assert_eq!(message.len(), 4 + TAG);
        for at in 0..message.len() {
            let mut changed = message.clone();
            changed[at] ^= 1;
            assert_eq!(decrypt(&key, &nonce, b"of", &changed), Err(Damaged));
        }
        assert_eq!(decrypt(&key, &nonce, b"on", &message), Err(Damaged));
        assert_eq!(decrypt(&[8; KEY], &nonce, b"of", &message), Err(Damaged));
        assert_eq!(decrypt(&key, &[8; NONCE], b"of", &message), Err(Damaged));
        assert_eq!(decrypt(&key, &nonce, b"of", &message[..3]), Err(Damaged));
    }
}
