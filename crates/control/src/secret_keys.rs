//! Secret keys of apps: the platform keeps them sealed, and signs, verifies, encrypts and
//! decrypts with them, so that an app need never hold the key.

use crate::error::shortened;
use crate::retry::{self, OfApp};
use crate::secrets::next_version;
use crate::{Error, Kind, Platform, lookup};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::id::AppId;
use seal::{KeyType, SecretKeyError};
use std::collections::BTreeMap;
use store::records::{self, SecretKeyRecord, SecretKeysRecord, Stored};
use wire::secret::Bytes;
use wire::secret_keys::{
    Decrypt, Decrypted, Encrypt, Encrypted, KeyTypes, SecretKey, SecretKeyChanged, SecretKeys,
    Sign, Signed, Verify,
};
use zeroize::Zeroizing;

/// Keys of one app.
const MAX_KEYS: usize = 500;
/// Bytes of a name.
const MAX_NAME: usize = 255;
/// A path of its own below the keys.
const TYPES: &str = "types";

/// The context that a key is sealed for.
fn place(app: AppId, name: &str) -> String {
    format!("secret key of app {app}: {name}")
}

/// Keys of an app, by name; of these types if any is given.
///
/// # Errors
/// There is no such app or type.
pub async fn list(platform: &Platform, app: &str, types: &[String]) -> Result<SecretKeys, Error> {
    for name in types {
        parse_type("types", name)?;
    }
    let app = lookup::app(platform, app).await?.record.id;
    let keys = record(platform, app).await?.map(|stored| stored.record.keys).unwrap_or_default();
    let wanted = keys.iter().filter(|(_, key)| types.is_empty() || types.contains(&key.kind));
    Ok(SecretKeys { secret_keys: wanted.map(|(name, key)| shown(name, key)).collect() })
}

/// The types that keys may have.
///
/// # Errors
/// There is no such app.
pub async fn types(platform: &Platform, app: &str) -> Result<KeyTypes, Error> {
    lookup::app(platform, app).await?;
    Ok(KeyTypes { types: KeyType::ALL.iter().map(|kind| kind.as_str().to_owned()).collect() })
}

/// One key, without its secret part.
///
/// # Errors
/// There is no such key.
pub async fn get(platform: &Platform, app: &str, name: &str) -> Result<SecretKey, Error> {
    let (_, key) = find(platform, app, name).await?;
    Ok(shown(name, &key))
}

/// Sets a key, or generates one if no value is given. One of the same name is replaced.
///
/// # Errors
/// The name, type or value is not valid.
pub async fn set(
    platform: &Platform,
    app: &str,
    name: &str,
    (kind, value): (&str, Option<Bytes>),
) -> Result<SecretKeyChanged, Error> {
    check_name(name)?;
    let kind = parse_type("type", kind)?;
    let key = match value {
        Some(value) => {
            let bytes = Zeroizing::new(value.as_slice().to_vec());
            seal::SecretKey::new(kind, bytes).map_err(|err| failed("value", err))?
        }
        None => seal::SecretKey::generate(kind, platform.rng()),
    };
    let public_key = key.public_key().map(|key| STANDARD.encode(key));
    let (record, version) = change(platform, app, |app, keys| {
        let sealed = platform.secrets_key().seal(platform.rng(), &place(app, name), key.expose());
        let record = SecretKeyRecord {
            kind: kind.as_str().to_owned(),
            public_key: public_key.clone(),
            sealed: STANDARD.encode(sealed),
            created_ms: platform.clock().now_ms(),
        };
        keys.insert(name.to_owned(), record.clone());
        if keys.len() > MAX_KEYS {
            let rule = format!("an app has at most {MAX_KEYS} secret keys");
            return Err(Error::invalid("name", rule));
        }
        Ok(record)
    })
    .await?;
    Ok(SecretKeyChanged { key: Some(shown(name, &record)), version })
}

/// Removes a key. What was encrypted with it cannot be decrypted any more.
///
/// # Errors
/// There is no such key.
pub async fn remove(platform: &Platform, app: &str, name: &str) -> Result<SecretKeyChanged, Error> {
    let removed =
        change(platform, app, |_, keys| keys.remove(name).ok_or_else(|| no_key(app, name)));
    let (_, version) = removed.await?;
    Ok(SecretKeyChanged { key: None, version })
}

/// Encrypts a message.
///
/// # Errors
/// There is no such key, or it cannot do this.
pub async fn encrypt(
    platform: &Platform,
    app: &str,
    name: &str,
    ask: Encrypt,
) -> Result<Encrypted, Error> {
    let key = open(platform, app, name).await?;
    let (message, data) = (ask.plaintext.as_slice(), ask.associated_data.as_slice());
    let encrypted = key.encrypt(platform.rng(), message, data);
    encrypted
        .map(|bytes| Encrypted { ciphertext: Bytes::new(bytes) })
        .map_err(|err| failed(field_of(err), err))
}

/// Decrypts a message.
///
/// # Errors
/// As [`encrypt`], or the message was not encrypted with this key and data.
pub async fn decrypt(
    platform: &Platform,
    app: &str,
    name: &str,
    ask: Decrypt,
) -> Result<Decrypted, Error> {
    let key = open(platform, app, name).await?;
    let opened = key.decrypt(ask.ciphertext.as_slice(), ask.associated_data.as_slice());
    let opened = opened.map_err(|err| failed(field_of(err), err))?;
    Ok(Decrypted { plaintext: Bytes::new(opened.to_vec()) })
}

/// Signs a message.
///
/// # Errors
/// As [`encrypt`].
pub async fn sign(platform: &Platform, app: &str, name: &str, ask: Sign) -> Result<Signed, Error> {
    let key = open(platform, app, name).await?;
    let signature = key.sign(ask.plaintext.as_slice());
    signature
        .map(|bytes| Signed { signature: Bytes::new(bytes) })
        .map_err(|err| failed(field_of(err), err))
}

/// Checks a signature.
///
/// # Errors
/// As [`encrypt`], or the signature is not one of this key for the message.
pub async fn verify(platform: &Platform, app: &str, name: &str, ask: Verify) -> Result<(), Error> {
    let key = open(platform, app, name).await?;
    let verified = key.verify(ask.plaintext.as_slice(), ask.signature.as_slice());
    match verified.map_err(|err| failed(field_of(err), err))? {
        true => Ok(()),
        false => {
            Err(Error::invalid("signature", "is not a signature of this key for the plaintext"))
        }
    }
}

fn field_of(err: SecretKeyError) -> &'static str {
    match err {
        SecretKeyError::BadKey(_) | SecretKeyError::Unable(..) => "name",
        SecretKeyError::NoAssociatedData(_) => "associated_data",
        SecretKeyError::Damaged => "ciphertext",
    }
}

fn failed(field: &str, err: SecretKeyError) -> Error {
    Error::invalid(field, err.to_string())
}

fn parse_type(field: &str, name: &str) -> Result<KeyType, Error> {
    KeyType::parse(name).ok_or_else(|| {
        let all = KeyType::ALL.map(KeyType::as_str).join(", ");
        Error::invalid(field, format!("must be one of {all}, not {:?}", shortened(name, 40)))
    })
}

/// Clients add a version to the name of a key, such as `v0`.
fn check_name(name: &str) -> Result<(), Error> {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(valid) {
        let rule = "must be 1 to 255 letters, digits, dots, dashes and underscores";
        return Err(Error::invalid("name", rule));
    }
    match name == TYPES {
        true => Err(Error::invalid("name", "must not be \"types\", which is a path of its own")),
        false => Ok(()),
    }
}

fn no_key(app: &str, name: &str) -> Error {
    Error::not_found(format!("app {app:?} has no secret key {:?}", shortened(name, 80)))
}

fn shown(name: &str, key: &SecretKeyRecord) -> SecretKey {
    let public = key.public_key.as_ref().and_then(|key| STANDARD.decode(key).ok());
    SecretKey { name: name.to_owned(), kind: key.kind.clone(), public_key: public.map(Bytes::new) }
}

async fn record(
    platform: &Platform,
    app: AppId,
) -> Result<Option<Stored<SecretKeysRecord>>, Error> {
    Ok(records::get(platform.store(), &records::secret_keys_key(app)).await?)
}

async fn find(
    platform: &Platform,
    app: &str,
    name: &str,
) -> Result<(AppId, SecretKeyRecord), Error> {
    let id = lookup::app(platform, app).await?.record.id;
    let keys = record(platform, id).await?.map(|stored| stored.record.keys).unwrap_or_default();
    let key = keys.get(name).cloned().ok_or_else(|| no_key(app, name))?;
    Ok((id, key))
}

async fn open(platform: &Platform, app: &str, name: &str) -> Result<seal::SecretKey, Error> {
    let (id, key) = find(platform, app, name).await?;
    let broken = |why: String| Error::internal(format!("open the secret key {name}: {why}"));
    let kind = KeyType::parse(&key.kind).ok_or_else(|| {
        Error::new(
            Kind::Unsupported,
            format!("a later version has made the key of type {}", key.kind),
        )
    })?;
    let sealed = STANDARD.decode(&key.sealed).map_err(|_| broken("it is damaged".into()))?;
    let bytes = platform.secrets_key().open(&place(id, name), &sealed);
    let bytes = bytes.map_err(|err| broken(err.to_string()))?;
    seal::SecretKey::new(kind, bytes).map_err(|_| broken("it is damaged".into()))
}

/// Changes the keys of an app; the version after it.
async fn change<T>(
    platform: &Platform,
    app: &str,
    change: impl Fn(AppId, &mut BTreeMap<String, SecretKeyRecord>) -> Result<T, Error>,
) -> Result<(T, u64), Error> {
    let keys = OfApp { key: records::secret_keys_key, name: "the list of the app's secret keys" };
    retry::change_of_app(platform, app, keys, |app, mut record: SecretKeysRecord| {
        let changed = change(app, &mut record.keys)?;
        record.version = next_version(record.version, platform.clock().now_ms());
        Ok(((changed, record.version), Some(record)))
    })
    .await
}
