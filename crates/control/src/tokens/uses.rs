//! When the last use of each token was written.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Milliseconds in which the use of a token is written once.
const INTERVAL_MS: u64 = 10 * 60 * 1000;
/// Tokens whose last write is kept in memory.
const ENTRIES: usize = 4096;

/// The last use of each token that has been written.
#[derive(Debug, Default)]
pub(crate) struct TokenUses(Mutex<HashMap<String, u64>>);

impl TokenUses {
    /// Whether the use of a token at this time is to be written.
    pub(super) fn is_due(&self, sha256: &str, now_ms: u64) -> bool {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = written.get(sha256).copied();
        if last.is_some_and(|last| now_ms.abs_diff(last) < INTERVAL_MS) {
            return false;
        }
        if written.len() >= ENTRIES {
            written.clear();
        }
        written.insert(sha256.to_owned(), now_ms);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_use_of_a_token_is_written_once_per_interval() {
        let uses = TokenUses::default();
        assert!(uses.is_due("a", 1_000_000));
        assert!(!uses.is_due("a", 1_000_000 + INTERVAL_MS - 1));
        assert!(uses.is_due("b", 1_000_000), "another token has its own");
        assert!(uses.is_due("a", 1_000_000 + INTERVAL_MS));
        for n in 0..10_000 {
            uses.is_due(&n.to_string(), 0);
        }
        assert!(uses.0.lock().unwrap().len() <= ENTRIES);
    }
}
