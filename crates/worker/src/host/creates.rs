//! Creates that are under way, by machine.

use model::id::MachineId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Lets one create of a machine id run at a time.
#[derive(Debug, Default)]
pub(super) struct Creates(Mutex<HashMap<MachineId, Weak<tokio::sync::Mutex<()>>>>);

impl Creates {
    /// The lock of a machine id. It is forgotten once no create holds it.
    pub(super) fn lock_of(&self, id: MachineId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(&id).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(id, Arc::downgrade(&turn));
        turn
    }
}
