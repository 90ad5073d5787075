//! The audit log: every call that changes something and every denied one, with its caller.
//!
//! It is in files of its own and not in the store, so that its size does not slow the store
//! down. Calls without a valid token are not in it, since anyone could fill it with them; they
//! are counted in the metrics.

mod segments;

pub use segments::AuditLimits;
use segments::Segments;

use crate::{Error, Kind};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use wire::audit::{AuditEntry, AuditPage};

/// Most entries of a page, and those of one whose request names none.
const MAX_PAGE: usize = 1000;
const PAGE: usize = 100;
/// Files that one page reads.
const SEGMENTS: usize = 4;
/// Time after which an entry is durable.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// The log. Cheap to clone; without files it keeps nothing.
#[derive(Clone, Debug, Default)]
pub struct AuditLog(Option<Arc<Segments>>);

impl AuditLog {
    /// The log in a directory, which is made if it is not there. A task of `tasks` makes
    /// entries durable.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(dir: &Path, limits: AuditLimits, tasks: &rt::Tasks) -> io::Result<Self> {
        let segments = Arc::new(Segments::open(dir, limits)?);
        let (own, waker) = (segments.clone(), tasks.clone());
        tasks.spawn(async move {
            let mut is_last = false;
            while !is_last {
                tokio::select! {
                    () = tokio::time::sleep(SYNC_EVERY) => {}
                    () = waker.stopping() => is_last = true,
                }
                let own = own.clone();
                if let Ok(Err(err)) = tokio::task::spawn_blocking(move || own.sync()).await {
                    tracing::error!(error = %err, "sync the audit log");
                }
            }
        });
        Ok(Self(Some(segments)))
    }

    /// Appends an entry: it survives the end of the process.
    pub(crate) async fn append(&self, entry: AuditEntry, now_ms: u64) {
        let Some(segments) = self.0.clone() else { return };
        let written = tokio::task::spawn_blocking(move || segments.append(entry, now_ms)).await;
        if let Ok(Err(err)) = written {
            // The call has been done. That the log is broken is for the operator to see.
            tracing::error!(error = %err, "write the audit log");
        }
    }

    /// Entries, the newest first, of one organization or of all.
    ///
    /// # Errors
    /// There is no log; a file cannot be read.
    pub(crate) async fn page(
        &self,
        org: Option<String>,
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
        let Some(segments) = self.0.clone() else {
            return Err(Error::new(Kind::Unavailable, "this process keeps no audit log"));
        };
        let wanted = move |entry: &AuditEntry| org.is_none() || entry.org == org;
        let read = move || segments.page(before.as_deref(), limit, SEGMENTS, wanted);
        let page = tokio::task::spawn_blocking(read).await;
        let page = page.map_err(|err| Error::internal(format!("read the audit log: {err}")))?;
        page.map_err(|err| Error::internal(format!("read the audit log: {err}")))
    }
}
