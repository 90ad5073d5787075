//! The port to the global state: etcd's shape and nothing more.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::num::NonZeroU64;
use std::ops::Bound;
use std::time::Duration;

/// Number of a change to the store; grows by one with each transaction that
/// changes something. 0 is the empty store.
pub type Revision = u64;

/// Identifies a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(NonZeroU64);

impl LeaseId {
    /// A lease by its number; `None` for 0, which no lease has.
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// Its number.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl std::fmt::Display for LeaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The global state: orgs, apps, names, tokens, host list.
///
/// Every implementation passes `testkit::store::conformance`:
/// - an answered `txn` survives `kill -9` and a power cut;
/// - a range at a revision sees all keys as of one moment;
/// - a watch from a revision yields every later change of its keys, in order,
///   each transaction as one batch, or ends with [`StoreError::Compacted`];
/// - keys of an expired lease are deleted as by a transaction.
///
/// Keys and values are small (1.5 KiB, 1 MiB). A watch is a hint for when to
/// look: a caller that has to be right ranges again and compares revisions.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Keys of a range in order, at a revision (`None`: now), at most `limit`
    /// (`None`: all).
    async fn range(
        &self,
        range: KeyRange,
        at: Option<Revision>,
        limit: Option<usize>,
    ) -> Result<RangeResult, StoreError>;

    /// Checks all `compare`; carries out `then` if all hold, else `otherwise`;
    /// all in one transaction.
    async fn txn(&self, txn: Txn) -> Result<TxnResult, StoreError>;

    /// Changes of a range with a revision of `from` or later.
    async fn watch(
        &self,
        range: KeyRange,
        from: Revision,
    ) -> Result<BoxStream<'static, Result<WatchBatch, StoreError>>, StoreError>;

    /// A lease that ends `ttl` after its last renewal.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Renews a lease; [`StoreError::NoLease`] if it has ended.
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends a lease and deletes its keys.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Forgets what ranges and watches before `revision` would need.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;
}

/// A range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key.
    pub start: Bound<String>,
    /// End.
    pub end: Bound<String>,
}

impl KeyRange {
    /// One key.
    pub fn key(key: impl Into<String>) -> Self {
        let key = key.into();
        Self { start: Bound::Included(key.clone()), end: Bound::Included(key) }
    }

    /// All keys that begin with `prefix`, which ends in an ASCII character below DEL.
    pub fn prefix(prefix: &str) -> Self {
        let mut end = prefix.as_bytes().to_vec();
        let bound = match end.last_mut() {
            // One more than the last byte is the first key behind the prefix.
            Some(last) if *last < 0x7f => {
                *last += 1;
                String::from_utf8(end).map_or(Bound::Unbounded, Bound::Excluded)
            }
            _ => Bound::Unbounded,
        };
        Self { start: Bound::Included(prefix.into()), end: bound }
    }

    /// Whether `key` is in it.
    pub fn contains(&self, key: &str) -> bool {
        let after = match &self.start {
            Bound::Included(start) => key >= start.as_str(),
            Bound::Excluded(start) => key > start.as_str(),
            Bound::Unbounded => true,
        };
        after
            && match &self.end {
                Bound::Included(end) => key <= end.as_str(),
                Bound::Excluded(end) => key < end.as_str(),
                Bound::Unbounded => true,
            }
    }
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// Key.
    pub key: String,
    /// Value.
    pub value: Bytes,
    /// Revision that made the key.
    pub created: Revision,
    /// Revision that last wrote it.
    pub modified: Revision,
    /// Writes since it was made, from 1.
    pub version: u64,
    /// The lease that it is bound to.
    pub lease: Option<LeaseId>,
}

/// Answer to a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResult {
    /// Revision of the store when it was read.
    pub revision: Revision,
    /// In order of keys.
    pub entries: Vec<KeyValue>,
    /// There are more than `limit`.
    pub more: bool,
}

/// A transaction: conditions, and the steps for either outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compare: Vec<Compare>,
    /// Carried out if they do.
    pub then: Vec<Op>,
    /// Carried out if not.
    pub otherwise: Vec<Op>,
}

/// A condition on one key. An absent key has revision and version 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(String),
    /// The key exists.
    Present(String),
    /// It was last written by this revision.
    Modified(String, Revision),
    /// It has this value.
    Value(String, Bytes),
}

/// One step of a transaction. A key may be written once per transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Write a key, bound to the lease if one is given.
    Put(String, Bytes, Option<LeaseId>),
    /// Delete a range.
    Delete(KeyRange),
    /// Read a range, as of this transaction.
    Get(KeyRange),
}

impl Op {
    /// Writes a key without a lease.
    pub fn put(key: impl Into<String>, value: Bytes) -> Self {
        Self::Put(key.into(), value, None)
    }

    /// Deletes one key.
    pub fn delete(key: impl Into<String>) -> Self {
        Self::Delete(KeyRange::key(key))
    }
}

/// Answer to a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResult {
    /// All comparisons held.
    pub succeeded: bool,
    /// Revision of the store after it.
    pub revision: Revision,
    /// Answers to the `Get`s, in order.
    pub gets: Vec<Vec<KeyValue>>,
}

/// Changes of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// Its revision.
    pub revision: Revision,
    /// In order of keys.
    pub changes: Vec<Change>,
}

/// One changed key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Written.
    Put(KeyValue),
    /// Deleted.
    Deleted(String),
}

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The revision asked for has been forgotten; the first one kept is given.
    #[error("revision is compacted; the store begins at {0}")]
    Compacted(Revision),
    /// The revision asked for is in the future.
    #[error("revision {0} has not happened yet")]
    Future(Revision),
    /// The lease has ended.
    #[error("lease {0} has ended")]
    NoLease(LeaseId),
    /// A key is written twice in one transaction, or a limit is exceeded.
    #[error("transaction is not valid: {0}")]
    Invalid(String),
    /// The store is broken or away.
    #[error("global store failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}
