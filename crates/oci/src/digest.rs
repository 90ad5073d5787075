//! Digests, and readers and writers that compute them on the way.

use crate::fault::{Fault, Result};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Read, Write};

/// A SHA-256 in lower hex: the name of a content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Digest(String);

impl Digest {
    /// Takes `sha256:` and 64 hex digits, nothing else: the digits become file names.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:")?;
        let ok = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        ok.then(|| Self(hex.into()))
    }

    /// The same, as part of a content that may be hostile.
    pub(crate) fn within(text: &str) -> Result<Self> {
        Self::parse(text).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            Fault::refused(format!("digest {shown:?} is not of the form sha256:<64 hex digits>"))
        })
    }

    /// Of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::done(Sha256::new_with_prefix(bytes))
    }

    /// The digits.
    pub(crate) fn hex(&self) -> &str {
        &self.0
    }

    /// Enough digits for people.
    pub(crate) fn short(&self) -> &str {
        &self.0[..12]
    }

    fn done(hash: Sha256) -> Self {
        use fmt::Write as _;
        let mut hex = String::with_capacity(64);
        for byte in hash.finalize() {
            // Writing to a string can't fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// Hashes what passes through.
pub(crate) struct Hashing<T> {
    inner: T,
    hash: Sha256,
}

impl<T> Hashing<T> {
    /// Around `inner`, from nothing.
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// What was around, and the digest of all that passed.
    pub(crate) fn done(self) -> (T, Digest) {
        (self.inner, Digest::done(self.hash))
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hash.update(&buf[..n]);
        Ok(n)
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hash.update(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
