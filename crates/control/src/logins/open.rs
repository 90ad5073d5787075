//! The logins that are open.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wire::secret::Secret;

/// How long a login may take.
const MAY_TAKE: Duration = Duration::from_secs(15 * 60);

/// The logins that are open, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    begun: Mutex<VecDeque<Login>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) id: String,
    /// Name of the client's machine.
    pub(super) client: String,
    pub(super) begun_ms: u64,
    /// Until the client has fetched it.
    pub(super) token: Option<Secret>,
}

impl Logins {
    /// Those that have not taken too long.
    pub(super) fn lock(&self, now_ms: u64) -> MutexGuard<'_, VecDeque<Login>> {
        let mut open = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = u64::try_from(MAY_TAKE.as_millis()).unwrap_or(u64::MAX);
        open.retain(|login| now_ms.saturating_sub(login.begun_ms) < longest);
        open
    }
}
