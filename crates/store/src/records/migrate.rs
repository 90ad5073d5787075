//! From older layouts of the store to the current one.
//!
//! Version 1 (there is no `/schema` key) referred to apps by name:
//! `/machine-names/<app>/<name>`, `/machines/<id>` with the name of the app and
//! the host in the machine's id, `/idempotency/apps/<key>`. Version 2 refers to
//! apps by id and names the owner of each machine.
//!
//! Each record is moved in a transaction of its own that does nothing the second
//! time, so that a migration that was cut off is continued by the next one.

use super::{
    APPS, AppRecord, MACHINES, MachineRecord, NameRecord, OrgRecord, SCHEMA, Stored,
    app_machine_key, decode, encode, get, idempotency_key, list, name_key, org_key,
};
use crate::{Compare, KeyRange, Op, Store, StoreError, Txn};
use bytes::Bytes;
use model::id::{AppId, Epoch, MachineId, MachineName};
use serde::Deserialize;
use std::collections::HashMap;

const CURRENT: u32 = 2;
const OLD_NAMES: &str = "/machine-names/";
const OLD_IDEMPOTENCY_KEYS: &str = "/idempotency/apps/";

/// A machine in version 1.
#[derive(Deserialize)]
struct OldMachine {
    app: String,
    name: MachineName,
    claimed_ms: u64,
}

/// Brings the records to the current layout. To be called before anything else
/// uses the store.
///
/// # Errors
/// The store's; records that do not parse; a layout of a newer version.
pub async fn migrate(store: &dyn Store) -> Result<(), StoreError> {
    let version: Option<Stored<u32>> = get(store, SCHEMA).await?;
    match version.map_or(1, |version| version.record) {
        CURRENT => return Ok(()),
        1 => {}
        newer => {
            let why = format!(
                "the global store has layout {newer}, this version knows up to {CURRENT}: \
                 run the version that wrote it, or a later one"
            );
            return Err(StoreError::Failed(why.into()));
        }
    }
    let apps: Vec<Stored<AppRecord>> = list(store, APPS).await?;
    let apps: HashMap<String, AppRecord> =
        apps.into_iter().map(|app| (app.record.name.to_string(), app.record)).collect();
    names(store, &apps).await?;
    machines(store, &apps).await?;
    idempotency_keys(store, &apps).await?;
    let then = vec![Op::put(SCHEMA, encode(&CURRENT))];
    store.txn(Txn { then, ..Txn::default() }).await?;
    Ok(())
}

async fn names(store: &dyn Store, apps: &HashMap<String, AppRecord>) -> Result<(), StoreError> {
    let old: Vec<Stored<NameRecord>> = list(store, OLD_NAMES).await?;
    for Stored { key, record, .. } in old {
        let path = key.strip_prefix(OLD_NAMES).unwrap_or_default();
        let (app, name) = path.split_once('/').unwrap_or_default();
        let mut then = vec![Op::delete(&key)];
        // Without its app a name leads nowhere.
        if let Some(app) = apps.get(app) {
            then.push(Op::put(name_key(app.id, name), encode(&record)));
        }
        store.txn(Txn { then, ..Txn::default() }).await?;
    }
    Ok(())
}

async fn machines(store: &dyn Store, apps: &HashMap<String, AppRecord>) -> Result<(), StoreError> {
    let all = store.range(KeyRange::prefix(MACHINES), None, None).await?.entries;
    for entry in all {
        // One that has been moved already refers to its app by number.
        let Ok(old) = decode::<OldMachine>(&entry.key, &entry.value) else {
            decode::<MachineRecord>(&entry.key, &entry.value)?;
            continue;
        };
        let id = entry.key.strip_prefix(MACHINES).and_then(|id| id.parse().ok());
        let then = match (id, apps.get(&old.app)) {
            (Some(id), Some(app)) => moved(&entry.key, id, app.id, old),
            // Left over from an app that is gone.
            _ => vec![Op::delete(&entry.key)],
        };
        let compare = vec![Compare::Modified(entry.key, entry.modified)];
        store.txn(Txn { compare, then, otherwise: vec![] }).await?;
    }
    Ok(())
}

fn moved(key: &str, id: MachineId, app: AppId, old: OldMachine) -> Vec<Op> {
    let record = MachineRecord {
        region: None,
        app,
        name: old.name,
        // In version 1 the id of a machine contained its host.
        owner: id.legacy_host(),
        epoch: Epoch(1),
        number: None,
        claimed_ms: old.claimed_ms,
        created: false,
        instance: None,
        config: None,
        updated_at: None,
    };
    vec![Op::put(key, encode(&record)), Op::put(app_machine_key(app, id), Bytes::new())]
}

async fn idempotency_keys(
    store: &dyn Store,
    apps: &HashMap<String, AppRecord>,
) -> Result<(), StoreError> {
    let old: Vec<Stored<String>> = list(store, OLD_IDEMPOTENCY_KEYS).await?;
    for Stored { key, record: app, .. } in old {
        let used = key.strip_prefix(OLD_IDEMPOTENCY_KEYS).unwrap_or_default();
        let mut then = vec![Op::delete(&key)];
        if let Some(app) = apps.get(&app) {
            let org: Option<Stored<OrgRecord>> = get(store, &org_key(&app.org)).await?;
            let key = org.map(|org| idempotency_key(org.record.id, used));
            then.extend(key.map(|key| Op::put(key, encode(&app.name))));
        }
        store.txn(Txn { then, ..Txn::default() }).await?;
    }
    Ok(())
}
