//! The audit log: every call that changes something and every denied one, with its caller.
//!
//! It is in files of its own and not in the store, so that its size does not slow the store
//! down. Calls without a valid token are not in it, since anyone could fill it with them; they
//! are counted in the metrics.

mod segments;
mod throttle;

pub use segments::AuditLimits;
use segments::Segments;
use throttle::Throttle;

use crate::{Error, Kind};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wire::audit::{AuditEntry, AuditPage};

/// Most entries of a page, and those of one whose request names none.
const MAX_PAGE: usize = 1000;
const PAGE: usize = 100;
/// Files that one page reads.
const SEGMENTS: usize = 4;
/// Time after which an entry is durable.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Syncs between two looks for entries that are too old.
const SYNCS_PER_EXPIRY: u32 = 600;

/// The log. Cheap to clone; without files it keeps nothing.
#[derive(Clone, Debug, Default)]
pub struct AuditLog(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    segments: Segments,
    throttle: Mutex<Throttle>,
}

impl AuditLog {
    /// The log in a directory, which is made if it is not there. A task of `tasks` makes
    /// entries durable and removes old ones.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(
        dir: &Path,
        limits: AuditLimits,
        clock: &rt::Clock,
        tasks: &rt::Tasks,
    ) -> io::Result<Self> {
        let segments = Segments::open(dir, limits)?;
        let inner = Arc::new(Inner { segments, throttle: Mutex::default() });
        let (own, clock, waker) = (inner.clone(), clock.clone(), tasks.clone());
        tasks.spawn(async move {
            let (mut is_last, mut syncs) = (false, 0_u32);
            while !is_last {
                tokio::select! {
                    () = tokio::time::sleep(SYNC_EVERY) => {}
                    () = waker.stopping() => is_last = true,
                }
                let (own, now_ms) = (own.clone(), clock.now_ms());
                let expires = syncs % SYNCS_PER_EXPIRY == 0;
                syncs = syncs.wrapping_add(1);
                let maintain = move || own.maintain(now_ms, expires, is_last);
                if let Ok(Err(err)) = tokio::task::spawn_blocking(maintain).await {
                    tracing::error!(error = %err, "maintain the audit log");
                }
            }
        });
        Ok(Self(Some(inner)))
    }

    /// Appends an entry: it survives the end of the process. Of too many refused calls of one
    /// caller only the number does not.
    pub(crate) async fn append(&self, entry: AuditEntry, now_ms: u64) {
        let Some(own) = self.0.clone() else { return };
        let written = tokio::task::spawn_blocking(move || own.append(entry, now_ms)).await;
        if let Ok(Err(err)) = written {
            // The call has been done. That the log is broken is for the operator to see.
            tracing::error!(error = %err, "write the audit log");
        }
    }

    /// Entries, the newest first, of the organization with a number or of all.
    ///
    /// # Errors
    /// There is no log; a file cannot be read.
    pub(crate) async fn page(
        &self,
        org: Option<u32>,
        before: Option<String>,
        limit: Option<usize>,
    ) -> Result<AuditPage, Error> {
        let limit = limit.unwrap_or(PAGE);
        if limit == 0 || limit > MAX_PAGE {
            return Err(Error::invalid("limit", format!("must be from 1 to {MAX_PAGE}")));
        }
        if before.as_ref().is_some_and(|cursor| cursor.parse::<model::id::EventId>().is_err()) {
            return Err(Error::invalid("cursor", "must be the `next_cursor` of a page"));
        }
        let Some(own) = self.0.clone() else {
            return Err(Error::new(Kind::Unavailable, "this process keeps no audit log"));
        };
        let wanted = move |entry: &AuditEntry| org.is_none() || entry.org_id == org;
        let read = move || own.segments.page(before.as_deref(), limit, SEGMENTS, wanted);
        let page = tokio::task::spawn_blocking(read).await;
        let page = page.map_err(|err| Error::internal(format!("read the audit log: {err}")))?;
        page.map_err(|err| Error::internal(format!("read the audit log: {err}")))
    }
}

impl Inner {
    fn append(&self, entry: AuditEntry, now_ms: u64) -> io::Result<()> {
        if !Throttle::is_bounded(&entry) {
            return self.segments.append(entry, now_ms);
        }
        let due = self.throttle().admit(entry, now_ms);
        self.write(due, now_ms)
    }

    fn write(&self, due: Vec<AuditEntry>, now_ms: u64) -> io::Result<()> {
        due.into_iter().try_for_each(|entry| self.segments.append(entry, now_ms))
    }

    fn throttle(&self) -> std::sync::MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn maintain(&self, now_ms: u64, expires: bool, is_last: bool) -> io::Result<()> {
        let due = if is_last { self.throttle().rest() } else { self.throttle().ended(now_ms) };
        let written = self.write(due, now_ms);
        let expired = if expires { self.segments.remove_expired(now_ms) } else { Ok(()) };
        self.segments.sync().and(written).and(expired)
    }
}
