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

/// The records below a prefix, and those that this version cannot read: a newer one may
/// have written them.
#[derive(Debug)]
pub struct Listed<T> {
    /// In order of keys.
    pub records: Vec<Stored<T>>,
    /// Key and error of each record that does not parse.
    pub unreadable: Vec<(String, StoreError)>,
}

/// All records below a prefix. One that does not parse is reported beside the others.
///
/// # Errors
/// The store's.
pub async fn list_readable<T: DeserializeOwned>(
    store: &dyn Store,
    prefix: &str,
) -> Result<Listed<T>, StoreError> {
    let mut listed = Listed { records: Vec::new(), unreadable: Vec::new() };
    for kv in store.range(KeyRange::prefix(prefix), None, None).await?.entries {
        match decode(&kv.key, &kv.value) {
            Ok(record) => {
                listed.records.push(Stored { key: kv.key, revision: kv.modified, record });
            }
            Err(err) => listed.unreadable.push((kv.key, err)),
        }
    }
    Ok(listed)
}

/// All records below a prefix, in order of keys, if all of them parse.
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
