//! Records that cannot be read, remembered so that each is logged once.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Keys of records that cannot be read, as far as they have been logged.
#[derive(Debug, Default)]
pub(crate) struct Unreadable(Mutex<HashSet<String>>);

impl Unreadable {
    /// Keys that are remembered; further ones are not logged.
    const MAX: usize = 1024;

    /// The key has not been seen before, and is remembered from now on.
    pub(crate) fn is_new(&self, key: &str) -> bool {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        logged.len() < Self::MAX && logged.insert(key.to_owned())
    }
}
