//! Which taps this daemon keeps, and which of them rest.

use model::address::Slot;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use worker::ports::Link;

/// A tap whose descriptor this daemon shares with the VM.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The same open file as the VM's: a tap has one queue.
    pub(crate) tap: OwnedFd,
    pub(crate) index: u32,
    pub(crate) link: Link,
    /// No VM has it, and it is as new.
    pub(crate) rests: bool,
}

/// What is kept of a slot. Locked while anything of the slot changes.
pub(crate) type Place = Mutex<Option<Kept>>;

/// All slots that there ever were in this daemon's life.
#[derive(Debug, Default)]
pub(crate) struct Places {
    all: Mutex<BTreeMap<Slot, Arc<Place>>>,
    /// The longest resting first. A hint: the truth is in the places, since
    /// no thread may wait for a place while it holds this.
    resting: Mutex<VecDeque<Slot>>,
}

impl Places {
    pub(crate) fn of(&self, slot: Slot) -> Arc<Place> {
        lock(&self.all).entry(slot).or_default().clone()
    }

    /// Slots of which a tap is kept.
    pub(crate) fn all(&self) -> Vec<Slot> {
        lock(&self.all).keys().copied().collect()
    }

    /// `slot` rests from now on.
    pub(crate) fn rests(&self, slot: Slot) {
        lock(&self.resting).push_back(slot);
    }

    /// `slot` rests no more.
    pub(crate) fn stirs(&self, slot: Slot) {
        lock(&self.resting).retain(|resting| *resting != slot);
    }

    /// The longest resting, if more than `bound` rest. It is no more among them.
    pub(crate) fn surplus(&self, bound: usize) -> Option<Slot> {
        let mut resting = lock(&self.resting);
        (resting.len() > bound).then(|| resting.pop_front()).flatten()
    }
}

/// A panic of another thread leaves a slot of which less is known to be there
/// than is, which every change of it copes with.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
