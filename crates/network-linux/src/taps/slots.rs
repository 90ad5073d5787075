//! Which taps this daemon has open, and which of them are parked.

use model::address::Slot;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use worker::ports::Link;

/// A tap whose descriptor this daemon shares with the VM.
#[derive(Debug)]
pub(crate) struct Tap {
    /// The same open file as the VM's: a tap has one queue.
    pub(crate) fd: OwnedFd,
    pub(crate) index: u32,
    pub(crate) link: Link,
    /// No VM has it, and it is reset.
    pub(crate) parked: bool,
}

/// The tap of a slot, if this daemon has it open. Locked while anything of the
/// slot changes.
pub(crate) type Entry = Mutex<Option<Tap>>;

/// All slots that were used in this daemon's life.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    entries: Mutex<BTreeMap<Slot, Arc<Entry>>>,
    /// Links of machines that have a VM, also of VMs of an earlier daemon, whose
    /// descriptors only they have.
    active: Mutex<BTreeMap<Slot, Link>>,
    parked: ParkedTaps,
}

impl Slots {
    pub(crate) fn entry(&self, slot: Slot) -> Arc<Entry> {
        lock(&self.entries).entry(slot).or_default().clone()
    }

    /// Slots that were used.
    pub(crate) fn all(&self) -> Vec<Slot> {
        lock(&self.entries).keys().copied().collect()
    }

    /// A VM has the tap of this link.
    pub(crate) fn set_active(&self, link: Link) {
        lock(&self.active).insert(link.slot, link);
        self.parked.remove(link.slot);
    }

    /// The tap of the slot is parked from now on.
    pub(crate) fn set_parked(&self, slot: Slot) {
        lock(&self.active).remove(&slot);
        self.parked.push(slot);
    }

    /// There is no tap in the slot any more.
    pub(crate) fn set_free(&self, slot: Slot) {
        lock(&self.active).remove(&slot);
        self.parked.remove(slot);
    }

    /// The links that VMs have.
    pub(crate) fn active(&self) -> Vec<Link> {
        lock(&self.active).values().copied().collect()
    }

    /// Whether a VM has the tap of this link.
    pub(crate) fn is_active(&self, link: &Link) -> bool {
        lock(&self.active).get(&link.slot) == Some(link)
    }

    /// The slot parked for the longest time, if more than `bound` are parked; it
    /// is taken out of the queue.
    pub(crate) fn evict(&self, bound: usize) -> Option<Slot> {
        self.parked.pop_above(bound)
    }
}

/// Slots of parked taps in the order in which they were parked. Only a queue for
/// eviction: an entry's `parked` decides, since no thread may wait for an entry
/// while it holds this lock.
#[derive(Debug, Default)]
struct ParkedTaps(Mutex<VecDeque<Slot>>);

impl ParkedTaps {
    fn push(&self, slot: Slot) {
        lock(&self.0).push_back(slot);
    }

    fn remove(&self, slot: Slot) {
        lock(&self.0).retain(|parked| *parked != slot);
    }

    fn pop_above(&self, bound: usize) -> Option<Slot> {
        let mut parked = lock(&self.0);
        (parked.len() > bound).then(|| parked.pop_front()).flatten()
    }
}

/// Locks; a panic of another thread leaves a slot in a state that every change
/// of it can start from.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
