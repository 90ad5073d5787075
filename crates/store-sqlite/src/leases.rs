//! Leases: their keys are deleted when they are not renewed in time.

use crate::SqliteStore;
use crate::rows::{self, Fault, int, nat};
use rusqlite::{Connection, OptionalExtension, params};
use std::time::Duration;
use store::*;

/// Longest time between two reads of the clock, which may be stepped.
const MAX_SLEEP: Duration = Duration::from_secs(60);
/// Pause after the database has failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(crate) async fn grant(store: &SqliteStore, ttl: Duration) -> Result<LeaseId, StoreError> {
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, i64::MAX as u64 / 4);
    let ends_ms = store.clock.now_ms() + ttl_ms;
    store
        .write(move |conn| {
            let sql = "INSERT INTO lease (ttl_ms, ends_ms) VALUES (?1, ?2)";
            conn.execute(sql, params![int(ttl_ms), int(ends_ms)])?;
            let number = u64::try_from(conn.last_insert_rowid()).unwrap_or(0);
            // AUTOINCREMENT begins at 1.
            let lease = LeaseId::new(number).ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            Ok((lease, 0))
        })
        .await
}

pub(crate) async fn keep_alive(store: &SqliteStore, lease: LeaseId) -> Result<(), StoreError> {
    let now_ms = store.clock.now_ms();
    store
        .write(move |conn| {
            check(conn, lease, now_ms)?;
            let sql = "UPDATE lease SET ends_ms = ?2 + ttl_ms WHERE id = ?1";
            conn.execute(sql, params![int(lease.get()), int(now_ms)])?;
            Ok(((), 0))
        })
        .await
}

pub(crate) async fn revoke(store: &SqliteStore, lease: LeaseId) -> Result<(), StoreError> {
    let now_ms = store.clock.now_ms();
    store
        .write(move |conn| {
            check(conn, lease, now_ms)?;
            Ok(((), end(conn, lease)?))
        })
        .await
}

/// Refuses a lease that has ended, also if its keys have not been deleted yet.
pub(crate) fn check(conn: &Connection, lease: LeaseId, now_ms: u64) -> Result<(), Fault> {
    let sql = "SELECT 1 FROM lease WHERE id = ?1 AND ends_ms > ?2";
    let found =
        conn.query_row(sql, params![int(lease.get()), int(now_ms)], |_| Ok(())).optional()?;
    found.ok_or(Fault::Refused(StoreError::NoLease(lease)))
}

/// Deletes a lease and its keys; the revision after it.
fn end(conn: &Connection, lease: LeaseId) -> Result<Revision, Fault> {
    let (before, _) = rows::revisions(conn)?;
    let sql = "SELECT key FROM kv AS k WHERE lease = ?1 AND deleted = 0
               AND rev = (SELECT max(rev) FROM kv WHERE key = k.key) ORDER BY key";
    let mut query = conn.prepare_cached(sql)?;
    let keys = query.query_map([int(lease.get())], |row| row.get::<_, String>(0))?;
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    for key in &keys {
        rows::delete(conn, before + 1, key)?;
    }
    conn.execute("DELETE FROM lease WHERE id = ?1", [int(lease.get())])?;
    if keys.is_empty() {
        return Ok(before);
    }
    rows::set_revision(conn, before + 1)?;
    Ok(before + 1)
}

pub(crate) async fn expire(store: &SqliteStore) -> Result<(), StoreError> {
    let now_ms = store.clock.now_ms();
    store
        .write(move |conn| {
            let mut query = conn.prepare("SELECT id FROM lease WHERE ends_ms <= ?1 ORDER BY id")?;
            let ended = query.query_map([int(now_ms)], |row| nat(row, 0))?;
            let mut revision = 0;
            for lease in ended.collect::<Result<Vec<_>, _>>()?.into_iter().filter_map(LeaseId::new)
            {
                revision = end(conn, lease)?;
            }
            Ok(((), revision))
        })
        .await
}

/// Deletes ended leases when they end. A new lease wakes it, since it may be
/// the next to end; a renewed one only makes it look too early.
pub(crate) async fn expire_forever(store: SqliteStore) {
    loop {
        let sleep = match expire_due(&store).await {
            Ok(sleep) => sleep,
            Err(err) => {
                tracing::error!(error = rt::chain(&err), "delete ended leases");
                Some(RETRY_AFTER)
            }
        };
        let granted = store.granted.notified();
        match sleep {
            Some(sleep) => drop(tokio::time::timeout(sleep, granted).await),
            None => granted.await,
        }
    }
}

/// Time until the next lease may end; `None` if there is none.
async fn expire_due(store: &SqliteStore) -> Result<Option<Duration>, StoreError> {
    let next = store.db.read(|conn| {
        let sql = "SELECT min(ends_ms) FROM lease";
        Ok::<_, Fault>(conn.query_row(sql, [], |row| row.get::<_, Option<i64>>(0))?)
    });
    let Some(ends_ms) = next.await? else { return Ok(None) };
    let left = u64::try_from(ends_ms).unwrap_or(0).saturating_sub(store.clock.now_ms());
    if left > 0 {
        return Ok(Some(Duration::from_millis(left).min(MAX_SLEEP)));
    }
    expire(store).await?;
    Ok(Some(Duration::ZERO))
}
