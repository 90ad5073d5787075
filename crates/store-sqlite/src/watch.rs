//! Watches: the table is read from where the last reading ended, whenever a
//! commit is announced.

use crate::SqliteStore;
use crate::rows::{self, COLUMNS, Fault, int};
use futures_util::stream::{self, BoxStream, StreamExt};
use rusqlite::{Connection, params};
use std::collections::VecDeque;
use store::*;
use tokio::sync::watch as channel;

/// Changes read at once; a batch is never cut, so it may be a few more.
const CHUNK: i64 = 1000;

struct Watch {
    store: SqliteStore,
    range: KeyRange,
    /// First revision that has not been looked at.
    next: Revision,
    ready: VecDeque<WatchBatch>,
    commits: channel::Receiver<Revision>,
    ended: bool,
}

pub(crate) async fn start(
    store: &SqliteStore,
    range: KeyRange,
    from: Revision,
) -> Result<BoxStream<'static, Result<WatchBatch, StoreError>>, StoreError> {
    let from = from.max(1);
    let revisions = |conn: &Connection| rows::revisions(conn);
    let (_, compacted) = store.db.read(revisions).await?;
    if from < compacted {
        return Err(StoreError::Compacted(compacted));
    }
    let watch = Watch {
        store: store.clone(),
        range,
        next: from,
        ready: VecDeque::new(),
        // Subscribed before the first reading: a commit in between is seen.
        commits: store.newest.subscribe(),
        ended: false,
    };
    Ok(stream::unfold(watch, |mut watch| async move {
        let item = watch.batch().await?;
        Some((item, watch))
    })
    .boxed())
}

impl Watch {
    async fn batch(&mut self) -> Option<Result<WatchBatch, StoreError>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Some(Ok(batch));
            }
            if self.ended {
                return None;
            }
            self.commits.mark_unchanged();
            match self.read().await {
                Err(err) => {
                    self.ended = true;
                    return Some(Err(err));
                }
                Ok(true) => {}
                // The store holds the sender as long as this watch holds the store.
                Ok(false) => self.commits.changed().await.ok()?,
            }
        }
    }

    /// Reads on; false if there is nothing newer.
    async fn read(&mut self) -> Result<bool, StoreError> {
        let (range, next) = (self.range.clone(), self.next);
        let (batches, seen) = self.store.db.read(move |conn| changes(conn, &range, next)).await?;
        let advanced = seen >= self.next;
        self.next = self.next.max(seen + 1);
        self.ready.extend(batches);
        Ok(advanced)
    }
}

/// Changes from `next` on, and the last revision that they cover.
fn changes(
    conn: &Connection,
    range: &KeyRange,
    next: Revision,
) -> Result<(Vec<WatchBatch>, Revision), Fault> {
    let view = conn.unchecked_transaction()?;
    let (newest, compacted) = rows::revisions(&view)?;
    if next < compacted {
        return Err(Fault::Refused(StoreError::Compacted(compacted)));
    }
    let (start, end) = rows::bounds(range);
    let last = last_of_chunk(&view, (&start, end.as_deref()), next)?.unwrap_or(newest);
    let sql = format!(
        "SELECT {COLUMNS} FROM kv WHERE rev BETWEEN ?1 AND ?2
         AND key >= ?3 AND (?4 IS NULL OR key < ?4) ORDER BY rev, key"
    );
    let mut query = view.prepare_cached(&sql)?;
    let rows = query.query_map(params![int(next), int(last), start, end], |row| {
        Ok((rows::key_value(row)?, row.get::<_, bool>(6)?))
    })?;
    let mut batches: Vec<WatchBatch> = Vec::new();
    for row in rows {
        let (kv, deleted) = row?;
        let revision = kv.modified;
        let change = if deleted { Change::Deleted(kv.key) } else { Change::Put(kv) };
        match batches.last_mut() {
            Some(batch) if batch.revision == revision => batch.changes.push(change),
            _ => batches.push(WatchBatch { revision, changes: vec![change] }),
        }
    }
    Ok((batches, last))
}

/// Revision at which a chunk ends, if there is more than one chunk.
fn last_of_chunk(
    conn: &Connection,
    (start, end): (&str, Option<&str>),
    next: Revision,
) -> Result<Option<Revision>, Fault> {
    let sql = "SELECT rev FROM kv WHERE rev >= ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3)
               ORDER BY rev, key LIMIT 1 OFFSET ?4";
    let mut query = conn.prepare_cached(sql)?;
    let mut rows = query.query(params![int(next), start, end, CHUNK])?;
    Ok(rows.next()?.map(|row| rows::nat(row, 0)).transpose()?)
}
