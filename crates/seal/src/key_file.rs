//! The file that holds a sealing key: 64 hex digits, readable by its owner only.

use crate::key::SealingKey;
use crate::xaes;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

/// A file with a key is no longer than this.
const LONGEST: u64 = 256;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or made.
    #[error("use the key file {path}")]
    Io {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        err: io::Error,
    },
    /// Others than its owner may read or write it.
    #[error("the key file {path} has the mode {mode:o}: run `chmod 600` on it")]
    Exposed {
        /// Its path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else.
    #[error("the key file {path} does not hold 64 hex digits: restore it from a backup")]
    Malformed {
        /// Its path.
        path: PathBuf,
    },
}

impl SealingKey {
    /// Reads the key of a file. If there is none, one is made: once this returns, the file
    /// survives a power cut, so that nothing is ever sealed with a key that is lost.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub fn read_or_make(path: &Path, rng: &rt::Rng) -> Result<Self, KeyFileError> {
        let failed = |err| KeyFileError::Io { path: path.into(), err };
        match read(path) {
            Err(KeyFileError::Io { err, .. }) if err.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        match make(path, rng) {
            // Another process was faster: its key is the one.
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(failed)?,
        }
        read(path)
    }
}

/// Writes a new key under a temporary name and links it to its own, which fails if that
/// exists: a file of the name is always whole.
fn make(path: &Path, rng: &rt::Rng) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("the path has no parent"))?;
    let name = path.file_name().ok_or_else(|| io::Error::other("the path has no file name"))?;
    let temp = dir.join(format!("{}.{:016x}.tmp", name.to_string_lossy(), rng.bits()));
    let bytes = Zeroizing::new(rng.bytes(xaes::KEY));
    let mut text = Zeroizing::new(hex::encode(&*bytes));
    text.push('\n');
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::hard_link(&temp, path)
    })();
    // The error that matters is the one of the writing.
    let _ = std::fs::remove_file(&temp);
    written?;
    rt::fs::sync_dir(dir)
}

fn read(path: &Path) -> Result<SealingKey, KeyFileError> {
    let failed = |err| KeyFileError::Io { path: path.into(), err };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.into(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(LONGEST).read_to_string(&mut text).map_err(failed)?;
    let mut key = Zeroizing::new([0; xaes::KEY]);
    let decoded = hex::decode_to_slice(text.trim(), &mut *key);
    text.zeroize();
    decoded.map_err(|_| KeyFileError::Malformed { path: path.into() })?;
    Ok(SealingKey::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets.key");
        let made = SealingKey::read_or_make(&path, &rt::Rng::seeded(1)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
        let again = SealingKey::read_or_make(&path, &rt::Rng::seeded(2)).unwrap();
        assert_eq!(again.id(), made.id());
    }

    #[test]
    fn a_file_that_is_open_to_others_or_no_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets.key");
        let use_it = || SealingKey::read_or_make(&path, &rt::Rng::seeded(1));
        std::fs::write(&path, "ab".repeat(32)).unwrap();
        let set = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        set(0o640);
        assert!(matches!(use_it(), Err(KeyFileError::Exposed { mode: 0o640, .. })));
        set(0o600);
        use_it().unwrap();
        for text in ["", "ab", &"xy".repeat(32), &"ab".repeat(33)] {
            std::fs::write(&path, text).unwrap();
            let refused = use_it().unwrap_err();
            assert!(matches!(refused, KeyFileError::Malformed { .. }), "{text:?}: {refused}");
            assert!(!refused.to_string().contains("xy"), "{refused}");
        }
        assert!(use_it().is_err(), "a file that is no key is not replaced");
    }
}
