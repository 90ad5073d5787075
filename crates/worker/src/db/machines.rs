//! Records of machines and their versions, and the calls that were carried out.

use super::events;
use super::host_db::HostDb;
use super::leases;
use super::volumes;
use crate::ports::OwnerLookup;
use crate::record::{self, Owners, Record, RecordParts};
use model::address::Slot;
use model::id::{AppId, MachineId};
use model::lease::Lease;
use model::life::State;
use rusqlite::{Connection, OptionalExtension, params};
use sqlite::Error;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire::machines::{MachineConfig, MachineEvent, MachineVersion};

/// Idempotency keys are kept for this long.
const CALLS_KEPT: Duration = Duration::from_secs(24 * 3600);
/// A released slot is not used again for this long: edges, name servers and peers may
/// still hold connections to its addresses.
const SLOT_QUARANTINE: Duration = Duration::from_secs(600);

/// Versions kept per machine; older ones are removed.
const KEPT_VERSIONS: u32 = 50;

/// Why a machine cannot be added.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddError {
    #[error("a machine of that name exists")]
    NameTaken,
    #[error("a machine of that id exists")]
    IdTaken,
    #[error(
        "this host has no free private address; those of destroyed machines can be used again \
         after {} minutes",
        SLOT_QUARANTINE.as_secs() / 60
    )]
    NoSlot,
    /// A create with this idempotency key has been carried out, and its machine has been
    /// destroyed since.
    #[error("this create has been carried out before, and its machine has been destroyed since")]
    Repeated,
    /// A volume of its config cannot be attached.
    #[error("{0}")]
    Volume(String),
    #[error(transparent)]
    Database(#[from] Error),
}

/// One durable change of a machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) events: Vec<MachineEvent>,
    /// The record's instance and config are a new version.
    pub(crate) new_version: bool,
    /// Idempotency key of the call that makes the change.
    pub(crate) call_key: Option<String>,
    /// A lease that is granted with the change.
    pub(crate) lease: Option<Lease>,
}

/// Why a change was not saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    /// A call with this idempotency key has been carried out before.
    #[error("the call has been carried out before")]
    Repeated,
    /// A volume of its config cannot be attached.
    #[error("{0}")]
    Volume(String),
    #[error(transparent)]
    Database(#[from] Error),
}

/// The machines of the database.
#[derive(Debug, Default)]
pub(crate) struct Machines {
    pub(crate) records: Vec<Record>,
    pub(crate) unreadable: Vec<UnreadableRow>,
}

/// A row whose record does not parse, with the values of its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnreadableRow {
    pub(crate) id: String,
    /// Name of its app.
    pub(crate) app: String,
    /// `None` in rows of the first version whose app is not known.
    pub(crate) app_id: Option<AppId>,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) slot: Option<Slot>,
    /// What can be read of its record.
    pub(crate) parts: RecordParts,
    pub(crate) error: String,
}

impl UnreadableRow {
    /// It may need its image and its memory.
    pub(crate) fn may_exist(&self) -> bool {
        self.state != State::Destroyed.as_str()
    }
}

impl HostDb {
    /// All machines, oldest first. Rows whose record does not parse are listed apart:
    /// their VMs must not be removed.
    pub(crate) async fn machines(
        &self,
        lookup: Option<&dyn OwnerLookup>,
    ) -> Result<Machines, Error> {
        let rows = self.0.read(|conn| {
            let sql = "SELECT record, id, app, name, state, slot, app_id FROM machines
                       ORDER BY rowid";
            let mut query = conn.prepare(sql)?;
            let rows = query.query_map([], |row| {
                let aside = UnreadableRow {
                    id: row.get(1)?,
                    app: row.get(2)?,
                    name: row.get(3)?,
                    state: row.get(4)?,
                    slot: row.get::<_, Option<u16>>(5)?.map(Slot),
                    app_id: row.get::<_, Option<u32>>(6)?.map(AppId),
                    parts: RecordParts::default(),
                    error: String::new(),
                };
                Ok((row.get::<_, String>(0)?, aside))
            })?;
            rows.collect::<Result<Vec<_>, _>>().map_err(Error::from)
        });
        let rows = rows.await?;
        let owners = find_owners(rows.iter().map(|(text, _)| text.as_str()), lookup).await;
        let (mut machines, mut resolved) = (Machines::default(), Vec::new());
        for (text, aside) in rows {
            match Record::from_json(&text, &owners) {
                Ok(record) => {
                    if record::names_without_ids(&text).is_some() {
                        resolved.push(record.clone());
                    }
                    machines.records.push(record);
                }
                Err(error) => {
                    let parts = RecordParts::of(&text);
                    machines.unreadable.push(UnreadableRow { parts, error, ..aside });
                }
            }
        }
        self.store_resolved(resolved).await?;
        Ok(machines)
    }

    /// Stores records of the first version with the ids that were found.
    async fn store_resolved(&self, records: Vec<Record>) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        self.0
            .write(move |conn| {
                let sql = "UPDATE machines SET app_id = ?2, record = ?3 WHERE id = ?1";
                for record in &records {
                    let app = i64::from(record.app.0);
                    conn.execute(sql, params![record.id.to_string(), app, record.to_json()])?;
                }
                Ok(())
            })
            .await
    }

    /// Whether a call with this idempotency key has been carried out.
    pub(crate) async fn is_call_done(&self, key: String) -> Result<bool, Error> {
        self.0
            .read(move |conn| {
                let sql = "SELECT 1 FROM calls WHERE key = ?1";
                let row = conn.query_row(sql, [key], |_| Ok(())).optional()?;
                Ok(row.is_some())
            })
            .await
    }

    /// Notes a call that changes no record. False if it was carried out before.
    pub(crate) async fn begin_call(&self, key: String, now_ms: u64) -> Result<bool, Error> {
        self.0.write(move |conn| note_call(conn, &key, now_ms)).await
    }

    /// Adds a machine in a free slot below `slots` that is not `blocked`.
    pub(crate) async fn add(
        &self,
        make: impl FnOnce(Slot) -> Record + Send + 'static,
        slots: u32,
        blocked: BTreeSet<Slot>,
        change: Change,
    ) -> Result<Record, AddError> {
        let saved = self
            .0
            .write(move |conn| {
                let mut record = make(Slot(0));
                if let Some(key) = change.call_key.as_deref()
                    && !note_call(conn, key, record.created_ms)?
                {
                    return Err(AddError::Repeated);
                }
                remove_given_up(conn, record.id)?;
                check_free(conn, &record)?;
                let slot = free_slot(conn, slots, &blocked, record.created_ms)?;
                let slot = slot.ok_or(AddError::NoSlot)?;
                record.slot = Some(slot);
                conn.execute("DELETE FROM released_slots WHERE slot = ?1", [slot.0])
                    .map_err(Error::from)?;
                let sql = "INSERT INTO machines
                               (id, app, name, state, slot, record, app_id, destroyed_ms)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
                conn.execute(sql, columns(&record)).map_err(Error::from)?;
                volumes::attach(conn, &record)?.map_err(AddError::Volume)?;
                note(conn, &record, &change)?;
                Ok(record)
            })
            .await;
        self.1.notify_one();
        saved
    }

    pub(crate) async fn save(&self, record: Record, change: Change) -> Result<(), SaveError> {
        let saved = self
            .0
            .write(move |conn| {
                let key = change.call_key.as_deref();
                let begun = key.map_or(Ok(true), |key| note_call(conn, key, record.updated_ms))?;
                if !begun {
                    return Err(SaveError::Repeated);
                }
                if record.slot.is_none() {
                    let sql = "INSERT OR REPLACE INTO released_slots
                               SELECT slot, ?2 FROM machines WHERE id = ?1 AND slot NOT NULL";
                    conn.execute(sql, params![record.id.to_string(), record.updated_ms as i64])
                        .map_err(Error::from)?;
                }
                volumes::detach(conn, &record, change.new_version)?;
                if change.new_version {
                    volumes::attach(conn, &record)?.map_err(SaveError::Volume)?;
                }
                update(conn, &record)?;
                Ok(note(conn, &record, &change)?)
            })
            .await;
        self.1.notify_one();
        saved
    }

    /// Removes records of machines that were destroyed before a moment, and the oldest ones
    /// beyond `most`.
    pub(crate) async fn forget(&self, before_ms: u64, most: u32) -> Result<Vec<String>, Error> {
        let before = i64::try_from(before_ms).unwrap_or(i64::MAX);
        self.0
            .write(move |conn| {
                let sql = "SELECT id FROM machines
                           WHERE state = 'destroyed' AND destroyed_ms < ?1
                           UNION SELECT id FROM (SELECT id FROM machines WHERE state = 'destroyed'
                               ORDER BY destroyed_ms DESC LIMIT -1 OFFSET ?2)";
                let mut query = conn.prepare(sql)?;
                let ids: Vec<String> = query
                    .query_map(params![before, most], |row| row.get(0))?
                    .collect::<Result<_, _>>()?;
                forget_machines(conn, &ids)?;
                Ok(ids)
            })
            .await
    }

    /// Removes the oldest of the destroyed machines, until the records of the others have at
    /// most `most` bytes. The ids, and the bytes that are left.
    pub(crate) async fn forget_beyond(&self, most: u64) -> Result<(Vec<String>, u64), Error> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.0
            .write(move |conn| {
                let sql = "SELECT id, sum(length(CAST(record AS BLOB))) OVER
                               (ORDER BY destroyed_ms DESC, rowid DESC) AS bytes
                           FROM machines WHERE state = 'destroyed' ORDER BY bytes";
                let mut query = conn.prepare(sql)?;
                let rows: Vec<(String, i64)> = query
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect::<Result<_, _>>()?;
                let kept = rows.partition_point(|(_, bytes)| *bytes <= most);
                let left = kept.checked_sub(1).map_or(0, |newest| rows[newest].1);
                let ids: Vec<String> = rows.into_iter().skip(kept).map(|(id, _)| id).collect();
                forget_machines(conn, &ids)?;
                Ok((ids, left.unsigned_abs()))
            })
            .await
    }

    /// Newest first.
    pub(crate) async fn versions(&self, machine: MachineId) -> Result<Vec<MachineVersion>, Error> {
        let rows = self.0.read(move |conn| {
            let sql = "SELECT version, config FROM versions WHERE machine = ?1
                       ORDER BY version DESC";
            let mut query = conn.prepare(sql)?;
            let rows = query.query_map([machine.to_string()], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })?;
            rows.collect::<Result<Vec<_>, _>>().map_err(Error::from)
        });
        let parse = |(version, config): (String, String)| {
            let user_config: MachineConfig =
                serde_json::from_str(&config).map_err(|err| corrupt(err.to_string()))?;
            Ok(MachineVersion { version, user_config })
        };
        rows.await?.into_iter().map(parse).collect()
    }
}

fn forget_machines(conn: &Connection, ids: &[String]) -> Result<(), Error> {
    for id in ids {
        remove_all_of(conn, id)?;
        conn.execute("DELETE FROM machines WHERE id = ?1", [id])?;
    }
    Ok(())
}

fn corrupt(why: String) -> Error {
    Error::Statement(rusqlite::Error::ToSqlConversionFailure(
        format!("a stored record does not parse: {why}").into(),
    ))
}

/// Replaces the row of a machine. SQLite writes the indexes of each column that an update
/// names, also where its value stays: so those are named only if one of them changes.
fn update(conn: &Connection, record: &Record) -> Result<(), Error> {
    let record_alone = "UPDATE machines SET record = ?6 WHERE id = ?1 AND app IS ?2 AND name IS ?3
                        AND state IS ?4 AND slot IS ?5 AND app_id IS ?7 AND destroyed_ms IS ?8";
    if conn.prepare_cached(record_alone)?.execute(columns(record))? == 0 {
        let all = "UPDATE machines SET app = ?2, name = ?3, state = ?4, slot = ?5,
                   record = ?6, app_id = ?7, destroyed_ms = ?8 WHERE id = ?1";
        conn.prepare_cached(all)?.execute(columns(record))?;
    }
    Ok(())
}

fn columns(record: &Record) -> [Box<dyn rusqlite::ToSql>; 8] {
    let destroyed = record.state == State::Destroyed;
    let destroyed_ms = destroyed.then(|| i64::try_from(record.updated_ms).unwrap_or(i64::MAX));
    [
        Box::new(record.id.to_string()),
        Box::new(record.app_name.to_string()),
        Box::new(record.name.to_string()),
        Box::new(record.state.as_str()),
        Box::new(record.slot.map(|slot| slot.0)),
        Box::new(record.to_json()),
        Box::new(i64::from(record.app.0)),
        Box::new(destroyed_ms),
    ]
}

/// The ids of the apps that records of the first version name. Without an answer their
/// rows stay unreadable, and the next start asks again.
async fn find_owners(rows: impl Iterator<Item = &str>, lookup: Option<&dyn OwnerLookup>) -> Owners {
    let names: BTreeSet<_> = rows.filter_map(record::names_without_ids).collect();
    let mut owners = Owners::new();
    for (app, org) in names {
        let (Some(lookup), Ok(app_name), Ok(org_slug)) = (lookup, app.parse(), org.parse()) else {
            continue;
        };
        match lookup.owner(&app_name, &org_slug).await {
            Ok(Some(ids)) => drop(owners.insert((app, org), ids)),
            Ok(None) => {
                tracing::warn!(app, org, "no app of this name; its machines are left alone")
            }
            Err(err) => {
                tracing::warn!(app, error = rt::chain(&err), "cannot find the id of an app")
            }
        }
    }
    owners
}

/// Notes that a call has been carried out. False if it was before.
fn note_call(conn: &Connection, key: &str, now_ms: u64) -> Result<bool, Error> {
    let oldest = now_ms as i64 - CALLS_KEPT.as_millis() as i64;
    conn.prepare_cached("DELETE FROM calls WHERE done_ms < ?1")?.execute([oldest])?;
    let sql = "INSERT OR IGNORE INTO calls VALUES (?1, ?2)";
    Ok(conn.prepare_cached(sql)?.execute(params![key, now_ms as i64])? == 1)
}

/// Removes the record of a machine that another host had meanwhile.
fn remove_given_up(conn: &Connection, id: MachineId) -> Result<(), AddError> {
    let remove = || {
        let id = id.to_string();
        let sql = "DELETE FROM machines WHERE id = ?1 AND state = 'destroyed'
                   AND json_extract(record, '$.given_up') NOT NULL";
        if conn.execute(sql, [&id])? > 0 {
            remove_all_of(conn, &id)?;
        }
        Ok(())
    };
    remove().map_err(AddError::Database)
}

/// Removes what is kept of a machine beside its record.
fn remove_all_of(conn: &Connection, machine: &str) -> Result<(), Error> {
    events::remove_of(conn, machine)?;
    for table in ["versions", "leases", "runs", "schedules"] {
        conn.execute(&format!("DELETE FROM {table} WHERE machine = ?1"), [machine])?;
    }
    Ok(())
}

/// The lowest slot that was never used, else the one that was released first, if its
/// quarantine is over.
fn free_slot(
    conn: &Connection,
    slots: u32,
    blocked: &BTreeSet<Slot>,
    now_ms: u64,
) -> Result<Option<Slot>, Error> {
    let mut query = conn.prepare("SELECT slot FROM machines WHERE slot NOT NULL")?;
    let held = query.query_map([], |row| row.get::<_, u16>(0).map(Slot))?;
    let mut unusable = held.collect::<Result<BTreeSet<Slot>, _>>()?;
    unusable.extend(blocked);
    let mut query = conn.prepare("SELECT slot, released_ms FROM released_slots")?;
    let released = query.query_map([], |row| Ok((Slot(row.get(0)?), row.get::<_, i64>(1)?)))?;
    let released = released.collect::<Result<BTreeMap<Slot, i64>, _>>()?;
    let all = (0..slots.min(u32::from(u16::MAX))).map(|slot| Slot(slot as u16));
    let unused = all.clone().find(|slot| !unusable.contains(slot) && !released.contains_key(slot));
    if unused.is_some() {
        return Ok(unused);
    }
    let until = now_ms as i64 - SLOT_QUARANTINE.as_millis() as i64;
    let rested = all.filter(|slot| !unusable.contains(slot));
    let rested = rested.filter_map(|slot| Some((*released.get(&slot)?, slot)));
    Ok(rested.filter(|(at, _)| *at <= until).min().map(|(_, slot)| slot))
}

fn check_free(conn: &Connection, record: &Record) -> Result<(), AddError> {
    let exists = |sql: &str, args: &[&dyn rusqlite::ToSql]| {
        conn.query_row(sql, args, |_| Ok(())).optional().map(|row| row.is_some())
    };
    let (id, app) = (record.id.to_string(), i64::from(record.app.0));
    let name = record.name.as_str();
    let same_id = "SELECT 1 FROM machines WHERE id = ?1";
    if exists(same_id, &[&id]).map_err(Error::from)? {
        return Err(AddError::IdTaken);
    }
    let same_name = "SELECT 1 FROM machines WHERE app_id = ?1 AND name = ?2
                     AND state <> 'destroyed'";
    if exists(same_name, &[&app, &name]).map_err(Error::from)? {
        return Err(AddError::NameTaken);
    }
    Ok(())
}

fn note(conn: &Connection, record: &Record, change: &Change) -> Result<(), Error> {
    let machine = record.id.to_string();
    if let Some(lease) = &change.lease {
        leases::put(conn, record.id, lease)?;
    }
    events::add(conn, &machine, &change.events)?;
    if change.new_version {
        let config = serde_json::to_string(&record.config).expect("plain data serializes");
        let version = record.instance.to_string();
        let sql = "INSERT OR REPLACE INTO versions VALUES (?1, ?2, ?3)";
        conn.prepare_cached(sql)?.execute(params![machine, version, config])?;
        let sql = "DELETE FROM versions WHERE machine = ?1 AND version <=
            (SELECT version FROM versions WHERE machine = ?1
             ORDER BY version DESC LIMIT 1 OFFSET ?2)";
        conn.prepare_cached(sql)?.execute(params![machine, KEPT_VERSIONS])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::schema::MIGRATIONS;
    use crate::record::tests::sample;
    use rt::FailureHandler;
    use std::path::Path;

    fn open() -> (HostDb, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let db = HostDb::open(&dir.path().join("host.db"), FailureHandler::abort());
        (db.unwrap(), dir)
    }

    async fn add(db: &HostDb, n: u64, now_ms: u64, slots: u32) -> Result<Record, AddError> {
        let record = Record {
            id: MachineId::from_random(n),
            name: format!("m-{n}").parse().unwrap(),
            created_ms: now_ms,
            ..sample()
        };
        let make = move |slot| Record { slot: Some(slot), ..record };
        db.add(make, slots, BTreeSet::from([Slot(1)]), Change::default()).await
    }

    async fn destroy(db: &HostDb, record: &Record, now_ms: u64) {
        let mut record = Record { slot: None, updated_ms: now_ms, ..record.clone() };
        record.state = State::Destroyed;
        db.save(record, Change::default()).await.unwrap();
    }

    #[tokio::test]
    async fn a_slot_rests_before_it_is_used_again() {
        let (db, _dir) = open();
        let slots = 4;
        let mut records = Vec::new();
        for n in 1..=3 {
            records.push(add(&db, n, 0, slots).await.unwrap());
        }
        let given: Vec<_> = records.iter().map(|record| record.slot.unwrap().0).collect();
        assert_eq!(given, [0, 2, 3], "a blocked slot is left out");
        assert!(matches!(add(&db, 4, 0, slots).await, Err(AddError::NoSlot)));
        destroy(&db, &records[2], 1_000).await;
        destroy(&db, &records[0], 2_000).await;
        assert!(matches!(add(&db, 4, 600_999, slots).await, Err(AddError::NoSlot)));
        assert_eq!(add(&db, 4, 601_000, slots).await.unwrap().slot, Some(Slot(3)));
        assert!(matches!(add(&db, 5, 601_000, slots).await, Err(AddError::NoSlot)));
        assert_eq!(add(&db, 5, 700_000, slots).await.unwrap().slot, Some(Slot(0)), "the rest");
    }

    /// `host.db` as the first version wrote it, with one machine that runs.
    fn first_version(path: &Path) {
        let conn = Connection::open(path).unwrap();
        conn.execute_batch(MIGRATIONS[0]).unwrap();
        conn.pragma_update(None, "user_version", 1).unwrap();
        let record = r#"{"id":"00010000000007","app":"web","org":"personal","network":1,
            "name":"calm-river-1","slot":3,"state":"started","want":"run",
            "instance":"01BX5ZZKBKACTAV9WEVGEMMVRZ","config":{"image":"web:1"},
            "image":{"registry":"","repository":"","tag":"","digest":"sha256:x","labels":{}},
            "cordoned":false,"boot":"01BX5ZZKBKACTAV9WEVGEMMVS0","exit":null,"stop":null,
            "restarts":[],"restart_at":null,"failure":null,"created_ms":5,"updated_ms":6}"#;
        conn.execute(
            "INSERT INTO machines VALUES ('00010000000007','web','calm-river-1','started',3,?1)",
            [record],
        )
        .unwrap();
    }

    struct Apps;

    #[async_trait::async_trait]
    impl OwnerLookup for Apps {
        async fn owner(
            &self,
            app: &model::id::AppName,
            org: &model::id::OrgSlug,
        ) -> Result<Option<(AppId, model::id::OrgId)>, crate::ports::PortError> {
            let known = (app.as_str(), org.as_str()) == ("web", "personal");
            Ok(known.then_some((AppId(42), model::id::OrgId(5))))
        }
    }

    #[tokio::test]
    async fn a_database_of_the_first_version_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.db");
        first_version(&path);
        let db = HostDb::open(&path, FailureHandler::abort()).unwrap();
        let without = db.machines(None).await.unwrap();
        assert_eq!((without.records.len(), without.unreadable.len()), (0, 1));
        let machines = db.machines(Some(&Apps)).await.unwrap();
        let [record] = &machines.records[..] else { panic!("{machines:?}") };
        assert_eq!((record.app.0, record.org.0, record.epoch.0), (42, 5, 1));
        let pool = model::address::Ipv4Pool::new("172.30.0.0".parse().unwrap(), 16).unwrap();
        let addresses = |number| {
            let slot = record.slot.unwrap();
            model::address::of_machine(pool, slot, record.network, number).unwrap()
        };
        // As the first version planned them from host and slot.
        let own = addresses(record.number);
        assert_eq!(own.ipv6.to_string(), "fdaa:0:1:0:1:0:4:2");
        assert_eq!(own.mac, [0x02, 0x75, 0, 1, 0, 3]);
        // The ids are stored: the lookup is not needed again.
        drop(db);
        let db = HostDb::open(&path, FailureHandler::abort()).unwrap();
        assert_eq!(db.machines(None).await.unwrap().records, machines.records);
        let taken = Record { id: MachineId::from_random(8), slot: None, ..record.clone() };
        let added = db.add(move |_| taken, 100, BTreeSet::new(), Change::default()).await;
        assert!(matches!(added, Err(AddError::NameTaken)), "{added:?}");
    }

    #[tokio::test]
    async fn a_call_is_carried_out_once() {
        let (db, _dir) = open();
        let record = add(&db, 1, 0, 4).await.unwrap();
        let change = || Change { call_key: Some("k".into()), ..Change::default() };
        assert!(!db.is_call_done("k".into()).await.unwrap());
        db.save(record.clone(), change()).await.unwrap();
        assert!(db.is_call_done("k".into()).await.unwrap());
        let again = db.save(record, change()).await;
        assert!(matches!(again, Err(SaveError::Repeated)), "{again:?}");
        assert!(!db.begin_call("k".into(), 1).await.unwrap());
        assert!(db.begin_call("k".into(), 24 * 3_600_000 + 1001).await.unwrap(), "a day later");
        assert_eq!(db.next_epoch().await.unwrap(), 1);
        assert_eq!(db.next_epoch().await.unwrap(), 2);
    }

    #[tokio::test]
    async fn destroyed_machines_are_forgotten_by_age_and_number() {
        let (db, _dir) = open();
        let ids = async || {
            let machines = db.machines(None).await.unwrap().records;
            machines.iter().map(|record| record.name.to_string()).collect::<Vec<_>>()
        };
        for n in 1..=4 {
            let record = add(&db, n, 0, 10).await.unwrap();
            if n < 4 {
                destroy(&db, &record, n * 1_000).await;
            }
        }
        assert!(db.forget(1_000, 10).await.unwrap().is_empty());
        let removed = db.forget(1_001, 10).await.unwrap();
        assert_eq!(removed, [MachineId::from_random(1).to_string()]);
        assert_eq!(ids().await, ["m-2", "m-3", "m-4"], "one that exists is never forgotten");
        assert_eq!(db.forget(0, 1).await.unwrap(), [MachineId::from_random(2).to_string()]);
        assert_eq!(ids().await, ["m-3", "m-4"]);
    }

    #[tokio::test]
    async fn destroyed_machines_are_forgotten_beyond_a_number_of_bytes() {
        let (db, _dir) = open();
        assert_eq!(db.forget_beyond(0).await.unwrap(), (vec![], 0));
        for n in 1..=4 {
            let record = add(&db, n, 0, 10).await.unwrap();
            if n < 4 {
                destroy(&db, &record, n * 1_000).await;
            }
        }
        let (none, all) = db.forget_beyond(u64::MAX).await.unwrap();
        assert!(none.is_empty() && all > 3 * 100, "{all}");
        let id = |n| MachineId::from_random(n).to_string();
        let (removed, left) = db.forget_beyond(all - 1).await.unwrap();
        assert!(removed == [id(1)] && left < all, "the oldest first: {removed:?}");
        let (removed, left) = db.forget_beyond(0).await.unwrap();
        assert_eq!((removed, left), (vec![id(3), id(2)], 0));
        assert_eq!(db.machines(None).await.unwrap().records.len(), 1, "one that exists stays");
    }
}
