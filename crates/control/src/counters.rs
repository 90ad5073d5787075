//! Numbers that are allocated once and never used again.

use crate::{Error, Platform};
use store::records::{self, Stored, encode};
use store::{Compare, Op, Revision, Txn};

/// The next number of a counter, taken by `txn`.
pub(crate) async fn next_number(
    platform: &Platform,
    counter: &str,
    txn: &mut Txn,
) -> Result<u32, Error> {
    let key = records::counter_key(counter);
    let last: Option<Stored<u32>> = records::get(platform.store(), &key).await?;
    let (last, revision): (u32, Revision) = last.map_or((0, 0), |c| (c.record, c.revision));
    let next = last
        .checked_add(1)
        .ok_or_else(|| Error::internal(format!("all numbers for {counter} are in use")))?;
    txn.compare.push(Compare::Modified(key.clone(), revision));
    txn.then.push(Op::put(key, encode(&next)));
    Ok(next)
}
