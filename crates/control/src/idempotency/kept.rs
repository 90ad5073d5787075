//! How many records there are, in all and per caller.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Records that there may be.
pub(super) const MAX: usize = 10_000;
/// Those of them that may be of one caller: it cannot use up the keys of others.
pub(super) const MAX_OF_CALLER: usize = 1_000;

/// Counts of the records that are kept. Other processes of the control plane change the
/// store too, so that they are approximate between two counts.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_caller: HashMap<String, usize>,
}

impl Kept {
    /// The limit that another record of this caller would exceed, with its subject.
    pub(super) fn exceeded(&self, caller: &str) -> Option<(usize, &'static str)> {
        let counts = self.lock();
        let own = counts.by_caller.get(caller).copied().unwrap_or(0);
        match (own >= MAX_OF_CALLER, counts.all >= MAX) {
            (true, _) => Some((MAX_OF_CALLER, "of this caller")),
            (false, true) => Some((MAX, "of the platform")),
            (false, false) => None,
        }
    }

    /// The records have been counted: these are their callers.
    pub(super) fn set<'a>(&self, callers: impl Iterator<Item = &'a str>) {
        let mut counts = Counts::default();
        for caller in callers {
            counts.add(caller);
        }
        *self.lock() = counts;
    }

    /// One more record is kept.
    pub(super) fn add(&self, caller: &str) {
        self.lock().add(caller);
    }

    /// One record less is kept.
    pub(super) fn remove(&self, caller: &str) {
        let mut counts = self.lock();
        let Some(own) = counts.by_caller.get_mut(caller) else { return };
        *own -= 1;
        if *own == 0 {
            counts.by_caller.remove(caller);
        }
        counts.all -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn add(&mut self, caller: &str) {
        self.all += 1;
        *self.by_caller.entry(caller.to_owned()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_a_share_and_what_is_forgotten_is_free_again() {
        let kept = Kept::default();
        for _ in 0..MAX_OF_CALLER {
            assert_eq!(kept.exceeded("a"), None);
            kept.add("a");
        }
        assert_eq!(kept.exceeded("a"), Some((MAX_OF_CALLER, "of this caller")));
        assert_eq!(kept.exceeded("b"), None);
        kept.remove("a");
        assert_eq!(kept.exceeded("a"), None);
        // What was never counted does not count as removed.
        kept.remove("b");
        kept.set(["a"; MAX_OF_CALLER - 1].into_iter().chain(vec!["b"; MAX - MAX_OF_CALLER + 1]));
        assert_eq!(kept.exceeded("a"), Some((MAX, "of the platform")));
        assert_eq!(kept.exceeded("c"), Some((MAX, "of the platform")));
        kept.remove("a");
        assert_eq!(kept.exceeded("c"), None);
    }
}
