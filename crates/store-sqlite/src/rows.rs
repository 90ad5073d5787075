//! Reading and writing the table of all writes.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::ops::Bound;
use store::*;

/// What can go wrong inside a transaction.
#[derive(Debug)]
pub(crate) enum Fault {
    Database(sqlite::Error),
    Refused(StoreError),
}

impl From<sqlite::Error> for Fault {
    fn from(err: sqlite::Error) -> Self {
        Self::Database(err)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(err: rusqlite::Error) -> Self {
        Self::Database(err.into())
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Database(err) => Self::Failed(Box::new(err)),
            Fault::Refused(err) => err,
        }
    }
}

/// SQLite's integers are signed; revisions never come near the difference.
pub(crate) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(crate) fn nat(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|n| u64::try_from(n).unwrap_or(0))
}

/// Current revision and the first one that is kept.
pub(crate) fn revisions(conn: &Connection) -> Result<(Revision, Revision), Fault> {
    let mut query = conn.prepare_cached("SELECT revision, compacted FROM meta")?;
    Ok(query.query_row([], |row| Ok((nat(row, 0)?, nat(row, 1)?)))?)
}

pub(crate) fn set_revision(conn: &Connection, revision: Revision) -> Result<(), Fault> {
    conn.prepare_cached("UPDATE meta SET revision = ?1")?.execute([int(revision)])?;
    Ok(())
}

/// A range as `key >= ?1 AND key < ?2`; the successor of a text is the text
/// with a NUL behind it. `None` has no end.
pub(crate) fn bounds(range: &KeyRange) -> (String, Option<String>) {
    let after = |key: &String| format!("{key}\0");
    let start = match &range.start {
        Bound::Included(key) => key.clone(),
        Bound::Excluded(key) => after(key),
        Bound::Unbounded => String::new(),
    };
    let end = match &range.end {
        Bound::Included(key) => Some(after(key)),
        Bound::Excluded(key) => Some(key.clone()),
        Bound::Unbounded => None,
    };
    (start, end)
}

/// Column order of [`key_value`].
pub(crate) const COLUMNS: &str = "key, value, created, rev, version, lease, deleted";

pub(crate) fn key_value(row: &Row<'_>) -> rusqlite::Result<KeyValue> {
    Ok(KeyValue {
        key: row.get(0)?,
        value: Bytes::from(row.get::<_, Vec<u8>>(1)?),
        created: nat(row, 2)?,
        modified: nat(row, 3)?,
        version: nat(row, 4)?,
        lease: LeaseId::new(nat(row, 5)?),
    })
}

pub(crate) fn range(
    conn: &Connection,
    range: &KeyRange,
    at: Option<Revision>,
    limit: Option<usize>,
) -> Result<RangeResult, Fault> {
    let (revision, compacted) = revisions(conn)?;
    let at = at.unwrap_or(revision);
    if at > revision {
        return Err(Fault::Refused(StoreError::Future(at)));
    }
    if at < compacted {
        return Err(Fault::Refused(StoreError::Compacted(compacted)));
    }
    // One row beyond the limit shows whether there are more.
    let fetch = limit.map_or(-1, |limit| int(limit as u64).saturating_add(1));
    let mut entries = live(conn, range, at, fetch)?;
    let more = limit.is_some_and(|limit| entries.len() > limit);
    entries.truncate(limit.unwrap_or(entries.len()));
    Ok(RangeResult { revision, entries, more })
}

/// Keys of a range as of a revision; no limit if `fetch` is negative.
pub(crate) fn live(
    conn: &Connection,
    range: &KeyRange,
    at: Revision,
    fetch: i64,
) -> Result<Vec<KeyValue>, Fault> {
    let (start, end) = bounds(range);
    let sql = format!(
        "SELECT {COLUMNS} FROM kv AS k WHERE key >= ?1 AND (?2 IS NULL OR key < ?2)
         AND deleted = 0 AND rev = (SELECT max(rev) FROM kv WHERE key = k.key AND rev <= ?3)
         ORDER BY key LIMIT ?4"
    );
    let mut query = conn.prepare_cached(&sql)?;
    let rows = query.query_map(params![start, end, int(at), fetch], key_value)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The newest write of a key, unless that deleted it.
pub(crate) fn current(conn: &Connection, key: &str) -> Result<Option<KeyValue>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM kv WHERE key = ?1 ORDER BY rev DESC LIMIT 1");
    let mut query = conn.prepare_cached(&sql)?;
    let newest = query.query_row([key], |row| {
        let deleted: bool = row.get(6)?;
        Ok((!deleted).then_some(key_value(row)?))
    });
    Ok(newest.optional()?.flatten())
}

pub(crate) fn put(
    conn: &Connection,
    revision: Revision,
    key: &str,
    value: &[u8],
    lease: Option<LeaseId>,
) -> Result<(), Fault> {
    let former = current(conn, key)?;
    let (created, version) = former.map_or((revision, 1), |kv| (kv.created, kv.version + 1));
    insert(conn, revision, key, (value, false), (created, version, lease))
}

pub(crate) fn delete(conn: &Connection, revision: Revision, key: &str) -> Result<(), Fault> {
    insert(conn, revision, key, (&[], true), (0, 0, None))
}

fn insert(
    conn: &Connection,
    revision: Revision,
    key: &str,
    (value, deleted): (&[u8], bool),
    (created, version, lease): (Revision, u64, Option<LeaseId>),
) -> Result<(), Fault> {
    let sql = "INSERT INTO kv (rev, key, value, deleted, created, version, lease)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let lease = lease.map_or(0, |lease| int(lease.get()));
    let row = params![int(revision), key, value, deleted, int(created), int(version), lease];
    conn.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

/// Forgets what only ranges and watches before `revision` need: superseded
/// writes, and deletions older than it.
pub(crate) fn compact(conn: &Connection, revision: Revision) -> Result<(), Fault> {
    let (newest, compacted) = revisions(conn)?;
    if revision > newest {
        return Err(Fault::Refused(StoreError::Future(revision)));
    }
    if revision <= compacted {
        return Ok(());
    }
    let superseded = "DELETE FROM kv WHERE rev < ?1 AND (deleted = 1 OR EXISTS
        (SELECT 1 FROM kv AS n WHERE n.key = kv.key AND n.rev > kv.rev AND n.rev <= ?1))";
    conn.execute(superseded, [int(revision)])?;
    conn.execute("UPDATE meta SET compacted = ?1", [int(revision)])?;
    Ok(())
}
