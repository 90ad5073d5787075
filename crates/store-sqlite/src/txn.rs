//! Transactions: compare, then carry out one of two lists of steps.

use crate::rows::{self, Fault};
use rusqlite::Connection;
use std::collections::HashSet;
use store::*;

/// Steps and comparisons of one transaction, as in etcd.
const MAX_OPS: usize = 128;
const MAX_KEY: usize = 1536;
const MAX_VALUE: usize = 1024 * 1024;

/// Checks a transaction for what needs no look at the store.
pub(crate) fn check(txn: &Txn) -> Result<(), StoreError> {
    let invalid = |why: String| Err(StoreError::Invalid(why));
    for (what, count) in [
        ("compare", txn.compare.len()),
        ("then", txn.then.len()),
        ("otherwise", txn.otherwise.len()),
    ] {
        if count > MAX_OPS {
            return invalid(format!("{what} has {count} entries, at most {MAX_OPS} are allowed"));
        }
    }
    for branch in [&txn.then, &txn.otherwise] {
        let mut written = HashSet::new();
        for op in branch {
            let Op::Put(key, value, _) = op else { continue };
            if key.is_empty() || key.len() > MAX_KEY {
                return invalid(format!(
                    "a key has {} bytes, 1 to {MAX_KEY} are allowed",
                    key.len()
                ));
            }
            if value.len() > MAX_VALUE {
                return invalid(format!("value of {key} is larger than {MAX_VALUE} bytes"));
            }
            let deleted = |op: &Op| matches!(op, Op::Delete(range) if range.contains(key));
            if !written.insert(key) || branch.iter().any(deleted) {
                return invalid(format!("{key} is written twice"));
            }
        }
    }
    Ok(())
}

/// Executes a transaction; a `Get` sees the steps before it.
pub(crate) fn apply(conn: &Connection, txn: &Txn, now_ms: u64) -> Result<TxnResult, Fault> {
    let (before, _) = rows::revisions(conn)?;
    let succeeded = holds(conn, &txn.compare)?;
    let next = before + 1;
    let mut changed = false;
    let mut gets = Vec::new();
    for op in if succeeded { &txn.then } else { &txn.otherwise } {
        match op {
            Op::Put(key, value, lease) => {
                if let Some(lease) = lease {
                    crate::leases::check(conn, *lease, now_ms)?;
                }
                rows::put(conn, next, key, value, *lease)?;
                changed = true;
            }
            Op::Delete(range) => changed |= delete(conn, range, next)?,
            Op::Get(range) => gets.push(rows::live(conn, range, next, -1)?),
        }
    }
    if changed {
        rows::set_revision(conn, next)?;
    }
    Ok(TxnResult { succeeded, revision: if changed { next } else { before }, gets })
}

/// Deletes the keys of a range; returns whether there were any.
pub(crate) fn delete(
    conn: &Connection,
    range: &KeyRange,
    revision: Revision,
) -> Result<bool, Fault> {
    let doomed = rows::live(conn, range, revision, -1)?;
    for kv in &doomed {
        rows::delete(conn, revision, &kv.key)?;
    }
    Ok(!doomed.is_empty())
}

fn holds(conn: &Connection, compare: &[Compare]) -> Result<bool, Fault> {
    for condition in compare {
        let holds = match condition {
            Compare::Absent(key) => rows::current(conn, key)?.is_none(),
            Compare::Present(key) => rows::current(conn, key)?.is_some(),
            Compare::Modified(key, revision) => {
                rows::current(conn, key)?.map_or(0, |kv| kv.modified) == *revision
            }
            Compare::Value(key, value) => {
                rows::current(conn, key)?.is_some_and(|kv| kv.value == *value)
            }
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}
