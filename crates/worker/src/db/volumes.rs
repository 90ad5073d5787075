//! Volumes in `host.db`, and which machine has which.
//!
//! Invariant: a volume has one machine at most. It is attached in the transaction that records
//! the machine's config, and detached when the machine is destroyed, or has no VM and a config
//! that does not name the volume: until then its VM may still write to it.

use super::host_db::HostDb;
use crate::record::Record;
use crate::volumes::row::VolumeRow;
use model::id::{MachineId, VolumeId};
use model::life::State as MachineState;
use model::volume::{Event, State};
use rusqlite::{Connection, OptionalExtension, Row, params};
use sqlite::Error;
use std::collections::BTreeSet;

const COLUMNS: &str = "id, state, machine, record";

/// What becomes of a volume.
#[derive(Debug)]
pub(crate) enum VolumeChange {
    Keep,
    Put(Box<VolumeRow>),
    Remove,
}

impl HostDb {
    /// All volumes, oldest first. Rows that cannot be read are logged: their disks are left
    /// alone.
    pub(crate) async fn volumes(&self) -> Result<Vec<VolumeRow>, Error> {
        let rows = self.0.read(|conn| {
            let mut query =
                conn.prepare(&format!("SELECT {COLUMNS} FROM volumes ORDER BY rowid"))?;
            let rows = query.query_map([], columns)?;
            rows.collect::<Result<Vec<_>, _>>().map_err(Error::from)
        });
        let read = |row: Columns| {
            let id = row.0.clone();
            let read = parse(row);
            if read.is_none() {
                tracing::error!(volume = id, "the record of a volume cannot be read");
            }
            read
        };
        Ok(rows.await?.into_iter().filter_map(read).collect())
    }

    /// One volume.
    pub(crate) async fn volume(&self, id: VolumeId) -> Result<Option<VolumeRow>, Error> {
        self.0.read(move |conn| read(conn, &id.to_string())).await
    }

    /// Changes a volume by a rule that gets it and gives what becomes of it, with its answer.
    pub(crate) async fn change_volume<T: Send + 'static>(
        &self,
        id: VolumeId,
        rule: impl FnOnce(Option<VolumeRow>) -> (VolumeChange, T) + Send + 'static,
    ) -> Result<T, Error> {
        self.0
            .write(move |conn| {
                let (change, answer) = rule(read(conn, &id.to_string())?);
                match change {
                    VolumeChange::Keep => {}
                    VolumeChange::Put(row) => put(conn, &row)?,
                    VolumeChange::Remove => {
                        conn.execute("DELETE FROM volumes WHERE id = ?1", [id.to_string()])?;
                    }
                }
                Ok(answer)
            })
            .await
    }
}

/// Id, state, machine and record.
type Columns = (String, String, Option<String>, String);

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn parse((_, state, machine, record): Columns) -> Option<VolumeRow> {
    let machine = match machine {
        Some(machine) => Some(machine.parse::<MachineId>().ok()?),
        None => None,
    };
    VolumeRow::from_parts(State::parse(&state)?, machine, &record)
}

fn read(conn: &Connection, id: &str) -> Result<Option<VolumeRow>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM volumes WHERE id = ?1");
    let found = conn.prepare_cached(&sql)?.query_row([id], columns).optional()?;
    found.map_or(Ok(None), |row| match parse(row) {
        Some(row) => Ok(Some(row)),
        None => {
            let why = format!("the record of volume {id} cannot be read");
            Err(Error::Statement(rusqlite::Error::ToSqlConversionFailure(why.into())))
        }
    })
}

/// The machine of a row stays as it is: only [`attach`] and [`detach`] change it.
fn put(conn: &Connection, row: &VolumeRow) -> Result<(), Error> {
    let sql = "INSERT INTO volumes (id, app_id, state, record) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (id) DO UPDATE SET state = excluded.state, record = excluded.record";
    let (id, app) = (row.volume.id.to_string(), row.volume.app.0);
    conn.execute(sql, params![id, app, row.state.as_str(), row.to_json()])?;
    Ok(())
}

/// Attaches the volumes of a machine's config to it; why one of them cannot be, if so. Then
/// the transaction has to end without effect.
pub(super) fn attach(conn: &Connection, record: &Record) -> Result<Result<(), String>, Error> {
    for volume in wanted(record) {
        let why = match read(conn, &volume)? {
            None => Some(format!("this host has no volume {volume}")),
            Some(row) => refusal(&row, record),
        };
        if let Some(why) = why {
            return Ok(Err(why));
        }
        let sql = "UPDATE volumes SET machine = ?2 WHERE id = ?1";
        conn.prepare_cached(sql)?.execute(params![volume, record.id.to_string()])?;
    }
    Ok(Ok(()))
}

fn refusal(row: &VolumeRow, record: &Record) -> Option<String> {
    let volume = row.volume.id;
    if row.volume.app != record.app {
        return Some(format!("volume {volume} is of another app"));
    }
    if let Some(other) = row.machine.filter(|machine| *machine != record.id) {
        return Some(format!("volume {volume} is attached to machine {other}"));
    }
    row.state.after(Event::Attach).err().map(|refused| format!("volume {volume}: {refused}"))
}

/// The volumes that a machine's config names.
fn wanted(record: &Record) -> BTreeSet<String> {
    if record.state == MachineState::Destroyed {
        return BTreeSet::new();
    }
    record.config.mounts.iter().flatten().filter_map(|mount| mount.volume.clone()).collect()
}

/// Detaches the volumes that a machine has and its config does not name, unless its VM may
/// still use them. With a new version the VM is that of the version before.
pub(super) fn detach(conn: &Connection, record: &Record, new_version: bool) -> Result<(), Error> {
    let id = record.id.to_string();
    let mut down = record.boot.is_none();
    if !down && new_version {
        let sql = "SELECT json_extract(record, '$.boot') IS NULL FROM machines WHERE id = ?1";
        down = conn.query_row(sql, [&id], |row| row.get(0)).optional()?.unwrap_or(false);
    }
    if !down {
        return Ok(());
    }
    let mut query = conn.prepare_cached("SELECT id FROM volumes WHERE machine = ?1")?;
    let attached = query.query_map([&id], |row| row.get::<_, String>(0))?;
    let attached = attached.collect::<Result<BTreeSet<String>, _>>()?;
    for volume in attached.difference(&wanted(record)) {
        conn.execute("UPDATE volumes SET machine = NULL WHERE id = ?1", [volume])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{AddError, Change, SaveError};
    use crate::record::tests::sample;
    use crate::volumes::row::tests::volume;
    use model::address::Slot;
    use model::id::{BootId, InstanceId};
    use rt::FailureHandler;
    use wire::machines::Mount;

    fn open() -> (HostDb, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let db = HostDb::open(&dir.path().join("host.db"), FailureHandler::abort());
        (db.unwrap(), dir)
    }

    fn mounting(number: u64, volumes: &[u128]) -> Record {
        let mut record = sample();
        (record.id, record.name) =
            (MachineId::from_random(number), format!("m{number}").parse().unwrap());
        set_mounts(&mut record, volumes);
        record
    }

    fn set_mounts(record: &mut Record, volumes: &[u128]) {
        let mount = |number: &u128| Mount {
            volume: Some(VolumeId::from_random(*number).to_string()),
            path: Some(format!("/v{number}")),
            ..Mount::default()
        };
        record.config_mut().mounts = Some(volumes.iter().map(mount).collect());
    }

    async fn add(db: &HostDb, record: Record) -> Result<Record, AddError> {
        let place = move |slot: Slot| Record { slot: Some(slot), ..record };
        db.add(place, 16, BTreeSet::new(), Change::default()).await
    }

    async fn insert(db: &HostDb, number: u128, state: State) {
        let row = VolumeRow { state, ..volume(number) };
        let id = row.volume.id;
        db.change_volume(id, |_| (VolumeChange::Put(Box::new(row)), ())).await.unwrap();
    }

    async fn machine_of(db: &HostDb, number: u128) -> Option<MachineId> {
        db.volume(VolumeId::from_random(number)).await.unwrap().unwrap().machine
    }

    #[tokio::test]
    async fn a_volume_has_one_machine_at_most() {
        let (db, _dir) = open();
        insert(&db, 1, State::Created).await;
        insert(&db, 2, State::Created).await;
        insert(&db, 3, State::Creating).await;
        let first = add(&db, mounting(1, &[1])).await.unwrap();
        assert_eq!(machine_of(&db, 1).await, Some(first.id));
        // Whole or not at all: the free one stays free.
        let refused = add(&db, mounting(2, &[2, 1])).await.unwrap_err();
        assert!(refused.to_string().ends_with(&format!("attached to machine {}", first.id)));
        assert_eq!(machine_of(&db, 2).await, None);
        for (number, why) in [(3, "that is creating cannot be attached"), (4, "has no volume")] {
            let refused = add(&db, mounting(2, &[number])).await.unwrap_err();
            assert!(refused.to_string().contains(why), "{refused}");
        }
        let mut other_app = mounting(2, &[2]);
        other_app.app = model::id::AppId(99);
        let refused = add(&db, other_app).await.unwrap_err();
        assert!(refused.to_string().contains("of another app"), "{refused}");
        let second = add(&db, mounting(2, &[2])).await.unwrap();
        // What is put about a volume does not change whose it is.
        insert(&db, 2, State::Created).await;
        assert_eq!(machine_of(&db, 2).await, Some(second.id));
        let destroyed = Record { state: MachineState::Destroyed, boot: None, slot: None, ..first };
        db.save(destroyed, Change::default()).await.unwrap();
        assert_eq!((machine_of(&db, 1).await, machine_of(&db, 2).await), (None, Some(second.id)));
    }

    #[tokio::test]
    async fn a_volume_is_detached_once_no_vm_can_use_it() {
        let (db, _dir) = open();
        for number in [1, 2] {
            insert(&db, number, State::Created).await;
        }
        let update = || Change { new_version: true, ..Change::default() };
        let mut record = add(&db, mounting(1, &[1])).await.unwrap();
        record.boot = Some(BootId::new(1, 1));
        db.save(record.clone(), Change::default()).await.unwrap();
        // Its VM still writes to the first one.
        set_mounts(&mut record, &[2]);
        record.instance = InstanceId::new(5, 5);
        db.save(record.clone(), update()).await.unwrap();
        assert_eq!(machine_of(&db, 1).await, Some(record.id));
        assert_eq!(machine_of(&db, 2).await, Some(record.id));
        record.boot = None;
        db.save(record.clone(), Change::default()).await.unwrap();
        assert_eq!((machine_of(&db, 1).await, machine_of(&db, 2).await), (None, Some(record.id)));
        // It is down, and the next boot is recorded with the new version.
        set_mounts(&mut record, &[1]);
        record.boot = Some(BootId::new(2, 2));
        db.save(record.clone(), update()).await.unwrap();
        assert_eq!((machine_of(&db, 1).await, machine_of(&db, 2).await), (Some(record.id), None));
        set_mounts(&mut record, &[3]);
        let refused = db.save(record, update()).await.unwrap_err();
        assert!(matches!(refused, SaveError::Volume(_)), "{refused}");
    }
}
