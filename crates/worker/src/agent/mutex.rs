//! Locks that no panic of another task makes unusable.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex of this folder. None is held while a task waits.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
