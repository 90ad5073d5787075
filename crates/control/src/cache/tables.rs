//! The kinds of records that are kept in memory. None of them grows with what a client
//! sends beyond the names in it: of a machine's record its config is left out.

use model::id::{AppId, Epoch, HostId, MachineName};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use store::records::{self, AppRecord, MemberRecord, NameRecord, OrgRecord, Stored, TokenRecord};
use store::{Change, KeyValue};

/// Whom a machine belongs to: its record without version and config.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Ownership {
    /// App.
    pub(crate) app: AppId,
    /// Name.
    pub(crate) name: MachineName,
    /// The host that owns it.
    pub(crate) owner: HostId,
    /// How often the ownership has been decided.
    pub(crate) epoch: Epoch,
    /// Time of the claim, milliseconds since the epoch.
    pub(crate) claimed_ms: u64,
    /// The host has taken it.
    #[serde(default)]
    pub(crate) created: bool,
}

/// What is known of a key.
#[derive(Clone, Debug)]
pub(crate) enum Known<T> {
    /// Its record.
    Record(Stored<T>),
    /// There is no such key.
    Absent,
    /// Nothing: the store has to be asked.
    Unknown,
}

/// Records of one kind by key. `None` stands for one that cannot be parsed: a caller that
/// needs it reads the store, and gets the error.
type Table<T> = BTreeMap<String, Option<Stored<T>>>;

/// All that is kept.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    apps: Table<AppRecord>,
    /// Keys of the apps by number.
    app_keys: HashMap<AppId, String>,
    names: Table<NameRecord>,
    machines: Table<Ownership>,
    orgs: Table<OrgRecord>,
    tokens: Table<TokenRecord>,
    members: Table<MemberRecord>,
}

/// A kind of record that is kept in memory.
pub(crate) trait Cached: Clone + DeserializeOwned {
    /// The records of this kind.
    fn of(tables: &Tables) -> &BTreeMap<String, Option<Stored<Self>>>;
}

macro_rules! cached {
    ($($record:ty: $table:ident,)*) => {
        $(impl Cached for $record {
            fn of(tables: &Tables) -> &Table<Self> {
                &tables.$table
            }
        })*
    };
}

cached! {
    AppRecord: apps,
    NameRecord: names,
    Ownership: machines,
    OrgRecord: orgs,
    TokenRecord: tokens,
    MemberRecord: members,
}

impl Tables {
    /// Prefixes of the keys that are kept.
    pub(super) const PREFIXES: [&'static str; 6] = [
        records::APPS,
        records::NAMES,
        records::MACHINES,
        records::ORGS,
        records::TOKENS,
        records::MEMBERS,
    ];

    pub(super) fn get<T: Cached>(&self, key: &str) -> Known<T> {
        match T::of(self).get(key) {
            Some(Some(stored)) => Known::Record(stored.clone()),
            Some(None) => Known::Unknown,
            None => Known::Absent,
        }
    }

    /// `None` if one of them cannot be parsed.
    pub(super) fn below<T: Cached>(
        &self,
        prefix: &str,
        wanted: impl Fn(&T) -> bool,
    ) -> Option<Vec<Stored<T>>> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let table = T::of(self).range::<str, _>(from);
        let below = table.take_while(|(key, _)| key.starts_with(prefix));
        let mut found = Vec::new();
        for (_, stored) in below {
            let stored = stored.as_ref()?;
            if wanted(&stored.record) {
                found.push(stored.clone());
            }
        }
        Some(found)
    }

    pub(super) fn app_by_id(&self, id: AppId) -> Known<AppRecord> {
        self.app_keys.get(&id).map_or(Known::Absent, |key| self.get(key))
    }

    /// The app of a key is not this one any more.
    fn forget_app(&mut self, key: &str) {
        if let Some(Some(former)) = self.apps.get(key) {
            self.app_keys.remove(&former.record.id);
        }
    }

    /// Applies one change. Keys of other kinds are passed over.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Put(kv) => self.put(kv),
            Change::Deleted(key) => self.delete(key),
        }
    }

    pub(super) fn put(&mut self, kv: &KeyValue) {
        if kv.key.starts_with(records::APPS) {
            self.forget_app(&kv.key);
            put(&mut self.apps, kv);
            if let Some(Some(app)) = self.apps.get(&kv.key) {
                self.app_keys.insert(app.record.id, kv.key.clone());
            }
        } else if kv.key.starts_with(records::NAMES) {
            put(&mut self.names, kv);
        } else if kv.key.starts_with(records::MACHINES) {
            put(&mut self.machines, kv);
        } else if kv.key.starts_with(records::ORGS) {
            put(&mut self.orgs, kv);
        } else if kv.key.starts_with(records::TOKENS) {
            put(&mut self.tokens, kv);
        } else if kv.key.starts_with(records::MEMBERS) {
            put(&mut self.members, kv);
        }
    }

    fn delete(&mut self, key: &str) {
        self.forget_app(key);
        // A key is in one table at most.
        self.apps.remove(key);
        self.names.remove(key);
        self.machines.remove(key);
        self.orgs.remove(key);
        self.tokens.remove(key);
        self.members.remove(key);
    }
}

fn put<T: DeserializeOwned>(table: &mut Table<T>, kv: &KeyValue) {
    let record = records::decode(&kv.key, &kv.value).ok();
    let stored = record.map(|record| Stored { key: kv.key.clone(), revision: kv.modified, record });
    table.insert(kv.key.clone(), stored);
}
