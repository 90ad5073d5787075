//! Secret keys, against the published vectors of their algorithms.

use super::*;

fn key(kind: KeyType, bytes: Vec<u8>) -> SecretKey {
    SecretKey::new(kind, Zeroizing::new(bytes)).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

/// RFC 4231, test case 6: a key of 131 bytes.
#[test]
fn hmac_as_rfc_4231() {
    let message = b"Test Using Larger Than Block-Size Key - Hash Key First";
    for (kind, expected) in [
        (KeyType::Hs256, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
        (
            KeyType::Hs384,
            "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952",
        ),
        (
            KeyType::Hs512,
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
        ),
    ] {
        let key = key(kind, vec![0xaa; 131]);
        assert_eq!(hex::encode(key.sign(message).unwrap()), expected);
        assert_eq!(key.verify(message, &unhex(expected)), Ok(true));
        assert_eq!(key.verify(message, &unhex(expected)[..16]), Ok(false));
    }
}

/// RFC 8032, section 7.1, test 2.
#[test]
fn ed25519_as_rfc_8032() {
    let seed = unhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
    let public = unhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                     085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
    let own = key(KeyType::NaclSign, seed.clone());
    assert_eq!(own.public_key().unwrap(), public);
    assert_eq!(hex::encode(own.sign(&[0x72]).unwrap()), signature);
    assert_eq!(own.verify(&[0x72], &unhex(signature)), Ok(true));
    assert_eq!(own.verify(&[0x73], &unhex(signature)), Ok(false));
    // NaCl's form of the key has the public one behind the seed.
    let whole = key(KeyType::NaclSign, [seed.clone(), public.clone()].concat());
    assert_eq!(whole.expose(), seed);
    let foreign = [seed, vec![0; 32]].concat();
    let refused = SecretKey::new(KeyType::NaclSign, Zeroizing::new(foreign)).unwrap_err();
    assert_eq!(refused, SecretKeyError::BadKey(KeyType::NaclSign));
}

/// RFC 6979, appendix A.2.5: the key, its public point, and a signature of "sample".
#[test]
fn ecdsa_as_rfc_6979() {
    let own = key(
        KeyType::Es256,
        unhex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"),
    );
    let public = "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6\
                  7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
    assert_eq!(hex::encode(own.public_key().unwrap()), public);
    let signature = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716\
                     f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";
    assert_eq!(own.verify(b"sample", &unhex(signature)), Ok(true));
    assert_eq!(own.verify(b"simple", &unhex(signature)), Ok(false));
    let signed = own.sign(b"sample").unwrap();
    assert_eq!((signed.len(), own.verify(b"sample", &signed)), (64, Ok(true)));
}

/// The test vectors `auth` and `secretbox` of NaCl (<https://nacl.cr.yp.to/>, tests/).
#[test]
fn auth_and_secretbox_as_nacl() {
    let auth = key(
        KeyType::NaclAuth,
        unhex("eea6a7251c1e72916d11c2cb214d3c252539121d8e234e652d651fa4c8cff880"),
    );
    let message = unhex(
        "8e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5",
    );
    let own = auth.sign(&message).unwrap();
    assert_eq!(own.len(), 32);
    assert_eq!(auth.verify(&message, &own), Ok(true));
    // RFC 4231, test case 1, cut to the length of `crypto_auth`; its key is padded with zeros.
    let padded = [vec![0x0b; 20], vec![0; 12]].concat();
    let cut = key(KeyType::NaclAuth, padded).sign(b"Hi There").unwrap();
    let expected = "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde";
    assert_eq!(hex::encode(cut), expected);

    let secretbox = key(
        KeyType::NaclSecretbox,
        unhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389"),
    );
    let nonce = unhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37");
    let boxed = unhex(
        "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5",
    );
    let plain = "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705";
    let opened = secretbox.decrypt(&[nonce, boxed].concat(), b"").unwrap();
    assert_eq!(hex::encode(&*opened), plain);
}

#[test]
fn what_is_encrypted_is_decrypted_with_the_same_key_only() {
    let rng = rt::Rng::seeded(1);
    for kind in KeyType::ALL.into_iter().filter(|kind| !kind.signs()) {
        let own = SecretKey::generate(kind, &rng);
        let sealed = own.encrypt(&rng, b"hunter2", b"").unwrap();
        assert_ne!(sealed, own.encrypt(&rng, b"hunter2", b"").unwrap(), "{kind:?}");
        assert_eq!(own.decrypt(&sealed, b"").unwrap().as_slice(), b"hunter2");
        let other = SecretKey::generate(kind, &rng);
        assert_eq!(other.decrypt(&sealed, b""), Err(SecretKeyError::Damaged));
        for length in [0, 1, 23, 24, sealed.len() - 1] {
            assert_eq!(own.decrypt(&sealed[..length], b""), Err(SecretKeyError::Damaged));
        }
        let bound = own.encrypt(&rng, b"x", b"data");
        if kind == KeyType::Xaes256Gcm {
            let bound = bound.unwrap();
            assert_eq!(own.decrypt(&bound, b"data").unwrap().as_slice(), b"x");
            assert_eq!(own.decrypt(&bound, b"other"), Err(SecretKeyError::Damaged));
        } else {
            assert_eq!(bound, Err(SecretKeyError::NoAssociatedData(kind)));
        }
        assert_eq!(own.sign(b"x"), Err(SecretKeyError::Unable(kind, "sign")));
        assert!(own.verify(b"x", b"y").is_err());
    }
}

#[test]
fn keys_have_the_size_of_their_type() {
    let rng = rt::Rng::seeded(1);
    for kind in KeyType::ALL {
        assert_eq!(KeyType::parse(kind.as_str()), Some(kind));
        let made = SecretKey::generate(kind, &rng);
        assert!(!format!("{made:?}").contains('['), "{made:?}");
        for size in [0, 1, kind.size() - 1, 1025] {
            let refused = SecretKey::new(kind, Zeroizing::new(vec![1; size])).unwrap_err();
            assert_eq!(refused, SecretKeyError::BadKey(kind), "{size}");
        }
        if kind.signs() {
            assert!(made.encrypt(&rng, b"x", b"").is_err() && made.decrypt(b"x", b"").is_err());
        }
    }
    // Not a scalar of the curve: zero, and more than its order.
    for scalar in [[0; 32], [0xff; 32]] {
        assert!(SecretKey::new(KeyType::Es256, Zeroizing::new(scalar.to_vec())).is_err());
    }
    assert_eq!(KeyType::parse("rs256"), None);
}
