//! Reading and writing typed records.

use crate::{KeyRange, Revision, Store, StoreError};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record with the revision that last wrote it.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// Its key.
    pub key: String,
    /// Revision that last wrote it.
    pub revision: Revision,
    /// The record.
    pub record: T,
}

/// The stored form of a record.
pub fn encode<T: Serialize>(record: &T) -> Bytes {
    serde_json::to_vec(record).expect("records are plain data").into()
}

/// Parses the stored value of `key`.
///
/// # Errors
/// The value is not such a record.
pub fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|err| {
        let what = std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{key}: {err}"));
        StoreError::Failed(what.into())
    })
}

/// One record, if its key exists.
///
/// # Errors
/// The store's, and a record that does not parse.
pub async fn get<T: DeserializeOwned>(
    store: &dyn Store,
    key: &str,
) -> Result<Option<Stored<T>>, StoreError> {
    let found = store.range(KeyRange::key(key), None, Some(1)).await?.entries.pop();
    let Some(kv) = found else { return Ok(None) };
    let record = decode(&kv.key, &kv.value)?;
    Ok(Some(Stored { key: kv.key, revision: kv.modified, record }))
}

/// All records below a prefix, in order of keys.
///
/// # Errors
/// As [`get`].
pub async fn list<T: DeserializeOwned>(
    store: &dyn Store,
    prefix: &str,
) -> Result<Vec<Stored<T>>, StoreError> {
    let all = store.range(KeyRange::prefix(prefix), None, None).await?.entries;
    let decoded = all.into_iter().map(|kv| {
        let record = decode(&kv.key, &kv.value)?;
        Ok(Stored { key: kv.key, revision: kv.modified, record })
    });
    decoded.collect()
}
