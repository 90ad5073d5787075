//! Numbers of machines, allocated from a counter in the store.

use crate::retry::Tries;
use crate::{Error, Platform};
use model::address::MachineNumber;
use std::ops::Range;
use store::records::{self, Stored, encode};
use store::{Compare, Op, Txn};

/// Numbers that are taken from the counter at once. Those that this process does not
/// give to a machine before it ends are never given to any: there are 2^64.
const BLOCK: u64 = 64;

/// A number that no other machine has or will have.
pub(super) async fn allocate(platform: &Platform) -> Result<MachineNumber, Error> {
    let mut block = platform.machine_numbers().await;
    if block.is_empty() {
        *block = reserve(platform).await?;
    }
    let number = block.next().and_then(MachineNumber::allocated);
    number.ok_or_else(|| Error::internal("all machine numbers are in use"))
}

/// Takes a block of numbers from the counter.
async fn reserve(platform: &Platform) -> Result<Range<u64>, Error> {
    let key = records::counter_key("machines");
    let mut tries = Tries::new();
    while tries.again(platform).await {
        let last: Option<Stored<u64>> = records::get(platform.store(), &key).await?;
        let (first, revision) = last.map_or((0, 0), |counter| (counter.record, counter.revision));
        let end = first.saturating_add(BLOCK);
        let txn = Txn {
            compare: vec![Compare::Modified(key.clone(), revision)],
            then: vec![Op::put(&key, encode(&end))],
            otherwise: vec![],
        };
        if platform.store().txn(txn).await?.succeeded {
            return Ok(first..end);
        }
    }
    Err(Error::contention("the counter of machine numbers"))
}
