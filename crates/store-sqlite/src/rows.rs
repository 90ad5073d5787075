//! Reading and writing the table of all writes.

use bytes::Bytes;
use rusqlite::types::Value;
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

/// The first text behind `key`.
fn after(key: &str) -> String {
    format!("{key}\0")
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

/// Keys of a range as of a revision; no limit if `fetch` is negative. Two look-ups in the
/// index per key, however many revisions of it are kept.
pub(crate) fn live(
    conn: &Connection,
    range: &KeyRange,
    at: Revision,
    fetch: i64,
) -> Result<Vec<KeyValue>, Fault> {
    let (mut start, end) = bounds(range);
    // Every text is below every blob.
    let end = end.map_or(Value::Blob(Vec::new()), Value::Text);
    let mut next_key = conn.prepare_cached(NEXT_KEY)?;
    let mut newest = conn.prepare_cached(NEWEST)?;
    let mut entries = Vec::new();
    while fetch < 0 || int(entries.len() as u64) < fetch {
        let key = next_key.query_row(params![start, end], |row| row.get::<_, String>(0));
        let Some(key) = key.optional()? else { break };
        let entry = newest.query_row(params![key, int(at)], live_key_value);
        entries.extend(entry.optional()?.flatten());
        start = after(&key);
    }
    Ok(entries)
}

/// First key of a range.
const NEXT_KEY: &str = "SELECT key FROM kv WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 1";

/// The newest write of a key as of a revision.
const NEWEST: &str = "SELECT key, value, created, rev, version, lease, deleted FROM kv
    WHERE key = ?1 AND rev <= ?2 ORDER BY rev DESC LIMIT 1";

/// `None` for a deletion.
fn live_key_value(row: &Row<'_>) -> rusqlite::Result<Option<KeyValue>> {
    let deleted: bool = row.get(6)?;
    Ok((!deleted).then_some(key_value(row)?))
}

/// The newest write of a key, unless that deleted it.
pub(crate) fn current(conn: &Connection, key: &str) -> Result<Option<KeyValue>, Fault> {
    let mut newest = conn.prepare_cached(NEWEST)?;
    Ok(newest.query_row(params![key, i64::MAX], live_key_value).optional()?.flatten())
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

/// Free pages that one compaction gives back to the file system: bounds the time that
/// writers wait for it.
const FREED_PAGES: u32 = 4096;

/// Forgets what only ranges and watches before `revision` need: superseded
/// writes, and deletions older than it. Only keys that have been written since the last
/// compaction have such rows.
pub(crate) fn compact(conn: &Connection, revision: Revision) -> Result<(), Fault> {
    let (newest, compacted) = revisions(conn)?;
    if revision > newest {
        return Err(Fault::Refused(StoreError::Future(revision)));
    }
    if revision <= compacted {
        return Ok(());
    }
    let superseded = "DELETE FROM kv INDEXED BY kv_key WHERE rev < ?1
        AND key IN (SELECT key FROM kv WHERE rev >= ?2 AND rev <= ?1)
        AND (deleted = 1 OR EXISTS
            (SELECT 1 FROM kv AS n WHERE n.key = kv.key AND n.rev > kv.rev AND n.rev <= ?1))";
    conn.execute(superseded, params![int(revision), int(compacted)])?;
    conn.execute("UPDATE meta SET compacted = ?1", [int(revision)])?;
    let mut free = conn.prepare(&format!("PRAGMA incremental_vacuum({FREED_PAGES})"))?;
    let mut freed = free.query([])?;
    // It frees a page per step.
    while freed.next()?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::StatementStatus::VmStep;

    fn store() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("PRAGMA auto_vacuum=INCREMENTAL").unwrap();
        conn.execute_batch(crate::MIGRATIONS[0]).unwrap();
        conn
    }

    fn write(conn: &Connection, revisions: std::ops::Range<u64>, key: &str) {
        for revision in revisions {
            put(conn, revision, key, &[0; 100], None).unwrap();
            set_revision(conn, revision).unwrap();
        }
    }

    /// Steps of SQLite's virtual machine for a read of `range`.
    fn steps(conn: &Connection, range: &KeyRange) -> i32 {
        let before = count(conn);
        live(conn, range, u64::MAX, -1).unwrap();
        count(conn) - before
    }

    fn count(conn: &Connection) -> i32 {
        [NEXT_KEY, NEWEST]
            .map(|sql| conn.prepare_cached(sql).unwrap().get_status(VmStep))
            .into_iter()
            .sum()
    }

    #[test]
    fn a_read_does_not_cost_more_for_revisions_that_are_kept() {
        let conn = store();
        write(&conn, 1..2, "/a");
        write(&conn, 2..3, "/b");
        write(&conn, 3..4, "0behind all of them");
        let (one, all) = (KeyRange::key("/a"), KeyRange::prefix("/"));
        let before = (steps(&conn, &one), steps(&conn, &all));
        assert!(before.0 > 0 && before.1 > before.0, "{before:?}");
        write(&conn, 4..2000, "/a");
        write(&conn, 2000..2100, "0behind all of them");
        assert_eq!((steps(&conn, &one), steps(&conn, &all)), before);
        let values = live(&conn, &all, 1000, -1).unwrap();
        let found: Vec<_> = values.iter().map(|kv| (kv.key.as_str(), kv.modified)).collect();
        assert_eq!(found, [("/a", 1000), ("/b", 2)]);
    }

    #[test]
    fn a_compaction_looks_only_at_what_has_been_written_since_the_last_one() {
        let conn = store();
        for n in 1..1000 {
            write(&conn, n..n + 1, &format!("/{n:04}"));
        }
        compact(&conn, 999).unwrap();
        write(&conn, 1000..1010, "/0001");
        delete(&conn, 1010, "/0002").unwrap();
        set_revision(&conn, 1010).unwrap();
        write(&conn, 1011..1012, "/0003");
        compact(&conn, 1011).unwrap();
        let rows = |key: &str| {
            let sql = "SELECT count(*) FROM kv WHERE key = ?1";
            conn.query_row(sql, [key], |row| row.get::<_, u32>(0)).unwrap()
        };
        assert_eq!(["/0001", "/0002", "/0003", "/0004"].map(rows), [1, 0, 1, 1]);
        // A deletion at the revision itself is still seen, and goes with the next one.
        delete(&conn, 1012, "/0003").unwrap();
        set_revision(&conn, 1012).unwrap();
        compact(&conn, 1012).unwrap();
        assert_eq!(rows("/0003"), 1);
        write(&conn, 1013..1014, "/0004");
        compact(&conn, 1013).unwrap();
        assert_eq!(["/0003", "/0004"].map(rows), [0, 1]);
        let plan = conn.prepare(
            "EXPLAIN QUERY PLAN DELETE FROM kv INDEXED BY kv_key WHERE rev < 9
             AND key IN (SELECT key FROM kv WHERE rev >= 5 AND rev <= 9)",
        );
        let mut plan = plan.unwrap();
        let lines = plan.query_map([], |row| row.get::<_, String>(3)).unwrap();
        let lines: Vec<String> = lines.map(Result::unwrap).collect();
        assert!(lines.iter().all(|line| !line.contains("SCAN")), "{lines:?}");
    }
}
