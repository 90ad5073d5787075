//! Creates whose answer has been given and whose record is still to be confirmed.
//!
//! Invariant: at most [`MAX_WAITING`] wait here. What a crash loses of them, the
//! claims' reconciler finds by asking the hosts.

use model::id::MachineId;
use std::sync::{Mutex, MutexGuard, PoisonError};
use store::Revision;
use store::records::MachineRecord;
use wire::machines::Machine;

/// Confirmations that may wait; they go into one transaction together. A store
/// need not take more than 128 steps in one.
const MAX_WAITING: usize = 64;

/// A machine that a host has created, and whose record is still a claim.
#[derive(Debug)]
pub(crate) struct Confirmation {
    pub(crate) id: MachineId,
    /// The record as the claim wrote it, and the revision that did.
    pub(crate) claimed: (MachineRecord, Revision),
    /// The host's answer.
    pub(crate) machine: Machine,
}

/// What became of a confirmation that was to wait.
#[derive(Debug)]
pub(crate) enum Queued {
    /// It waits, as the first one: the caller that queued it writes all of them.
    First,
    /// It waits with others.
    Behind,
    /// There is no room.
    Refused(Box<Confirmation>),
}

/// The confirmations that wait to be written together.
#[derive(Debug, Default)]
pub(crate) struct Confirmations(Mutex<Vec<Confirmation>>);

impl Confirmations {
    pub(crate) fn push(&self, confirmation: Confirmation) -> Queued {
        let mut waiting = self.lock();
        if waiting.len() >= MAX_WAITING {
            return Queued::Refused(Box::new(confirmation));
        }
        waiting.push(confirmation);
        if waiting.len() == 1 { Queued::First } else { Queued::Behind }
    }

    /// Takes all of them.
    pub(crate) fn take(&self) -> Vec<Confirmation> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Confirmation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
