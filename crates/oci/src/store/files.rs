//! Files of the store: written atomically and durably.

use camino::Utf8Path;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io;
use std::time::UNIX_EPOCH;

/// Replaces a file durably.
pub(crate) fn write(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    rt::fs::write_atomic(path.as_std_path(), bytes, 0o600)
}

/// The JSON of a record.
pub(crate) fn json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(record).expect("records have string keys only")
}

/// Removes a file, if it exists. Returns the bytes freed.
pub(crate) fn remove(path: &Utf8Path) -> io::Result<u64> {
    let size = fs::symlink_metadata(path).map_or(0, |found| found.len());
    match fs::remove_file(path) {
        Ok(()) => Ok(size),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(err) => Err(err),
    }
}

/// Removes the files in `dir` except those whose name `keep` accepts. Returns
/// the bytes freed.
pub(crate) fn clear(dir: &Utf8Path, keep: impl Fn(&str) -> bool) -> io::Result<u64> {
    let mut freed = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !keep(&entry.file_name().to_string_lossy()) && entry.file_type()?.is_file() {
            freed += entry.metadata()?.len();
            fs::remove_file(entry.path())?;
        }
    }
    Ok(freed)
}

/// When a file was last written, in milliseconds since the epoch.
pub(crate) fn modified_ms(path: &Utf8Path) -> io::Result<u64> {
    let time = fs::metadata(path)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Reads all records in `dir`. A file that does not parse is logged and left out.
pub(crate) fn load<T: DeserializeOwned>(dir: &Utf8Path) -> io::Result<Vec<T>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match serde_json::from_slice(&fs::read(&path)?) {
            Ok(record) => records.push(record),
            // Records are written atomically, so it is a foreign file or a disk error.
            Err(err) => tracing::warn!(path = %path.display(), %err, "record ignored"),
        }
    }
    Ok(records)
}
