//! `host.db`: the truth about this host's machines.

use crate::record::Record;
use model::address::Slot;
use model::id::MachineId;
use rusqlite::{Connection, OptionalExtension, params};
use sqlite::{Database, Error};
use std::path::Path;
use wire::machines::{MachineConfig, MachineEvent, MachineVersion};

const MIGRATIONS: &[&str] = &["
    CREATE TABLE machines (
        id     TEXT PRIMARY KEY,
        app    TEXT NOT NULL,
        name   TEXT NOT NULL,
        state  TEXT NOT NULL,
        slot   INTEGER UNIQUE,
        record TEXT NOT NULL
    ) STRICT;
    -- Two machines of one app never share a name while both exist.
    CREATE UNIQUE INDEX machine_names ON machines (app, name) WHERE state <> 'destroyed';
    CREATE TABLE events (
        id      TEXT PRIMARY KEY,
        machine TEXT NOT NULL,
        event   TEXT NOT NULL
    ) STRICT;
    CREATE INDEX machine_events ON events (machine, id);
    CREATE TABLE versions (
        machine TEXT NOT NULL,
        version TEXT NOT NULL,
        config  TEXT NOT NULL,
        PRIMARY KEY (machine, version)
    ) STRICT;
"];

/// Events and versions kept per machine; older ones are forgotten.
const KEPT_EVENTS: u32 = 200;
const KEPT_VERSIONS: u32 = 50;

/// Why a machine cannot be added.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddError {
    #[error("a machine of that name exists")]
    NameTaken,
    #[error("a machine of that id exists")]
    IdTaken,
    #[error("this host has no free address")]
    NoSlot,
    #[error(transparent)]
    Database(#[from] Error),
}

/// One durable change of a machine.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) events: Vec<MachineEvent>,
    /// The record's instance and config are a new version.
    pub(crate) new_version: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct HostDb(Database);

impl HostDb {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        Database::open(path, MIGRATIONS).map(Self)
    }

    /// All machines, oldest first. A record that does not parse stops the host:
    /// to go on without it would orphan its VM.
    pub(crate) async fn machines(&self) -> Result<Vec<Record>, Error> {
        let rows = self.0.read(|conn| {
            let mut query = conn.prepare("SELECT record FROM machines ORDER BY rowid")?;
            let rows = query.query_map([], |row| row.get::<_, String>(0))?;
            rows.collect::<Result<Vec<_>, _>>().map_err(Error::from)
        });
        let parse = |text: &String| Record::from_json(text).map_err(corrupt);
        rows.await?.iter().map(parse).collect()
    }

    /// Adds a machine in the lowest free slot below `slots`.
    pub(crate) async fn add(
        &self,
        make: impl FnOnce(Slot) -> Record + Send + 'static,
        slots: u32,
        change: Change,
    ) -> Result<Record, AddError> {
        self.0
            .write(move |conn| {
                let slot = free_slot(conn, slots)?.ok_or(AddError::NoSlot)?;
                let record = make(slot);
                check_free(conn, &record)?;
                let sql = "INSERT INTO machines (id, app, name, state, slot, record)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                conn.execute(sql, columns(&record)).map_err(Error::from)?;
                note(conn, &record, &change)?;
                Ok(record)
            })
            .await
    }

    pub(crate) async fn save(&self, record: Record, change: Change) -> Result<(), Error> {
        self.0
            .write(move |conn| {
                let sql = "UPDATE machines SET app = ?2, name = ?3, state = ?4, slot = ?5,
                           record = ?6 WHERE id = ?1";
                conn.execute(sql, columns(&record))?;
                note(conn, &record, &change)
            })
            .await
    }

    /// Forgets destroyed machines: all but the newest `keep`.
    pub(crate) async fn forget(&self, keep: u32) -> Result<Vec<String>, Error> {
        self.0
            .write(move |conn| {
                let sql = "SELECT id FROM machines WHERE state = 'destroyed'
                           ORDER BY rowid DESC LIMIT -1 OFFSET ?1";
                let mut query = conn.prepare(sql)?;
                let ids: Vec<String> =
                    query.query_map([keep], |row| row.get(0))?.collect::<Result<_, _>>()?;
                for id in &ids {
                    for table in ["events", "versions"] {
                        conn.execute(&format!("DELETE FROM {table} WHERE machine = ?1"), [id])?;
                    }
                    conn.execute("DELETE FROM machines WHERE id = ?1", [id])?;
                }
                Ok(ids)
            })
            .await
    }

    /// Newest first.
    pub(crate) async fn events(
        &self,
        machine: MachineId,
        limit: usize,
    ) -> Result<Vec<MachineEvent>, Error> {
        let rows = self.0.read(move |conn| {
            let sql = "SELECT event FROM events WHERE machine = ?1 ORDER BY id DESC LIMIT ?2";
            let mut query = conn.prepare(sql)?;
            let args = params![machine.to_string(), limit as i64];
            let rows = query.query_map(args, |row| row.get::<_, String>(0))?;
            rows.collect::<Result<Vec<_>, _>>().map_err(Error::from)
        });
        // Events are told, not acted on: one that does not parse is left out.
        let parse = |text: &String| {
            let parsed = serde_json::from_str(text);
            parsed
                .inspect_err(|err| tracing::warn!(%machine, error = %err, "event is damaged"))
                .ok()
        };
        Ok(rows.await?.iter().filter_map(parse).collect())
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

fn corrupt(why: String) -> Error {
    Error::Statement(rusqlite::Error::ToSqlConversionFailure(
        format!("a stored record does not parse: {why}").into(),
    ))
}

fn columns(record: &Record) -> [Box<dyn rusqlite::ToSql>; 6] {
    [
        Box::new(record.id.to_string()),
        Box::new(record.app.to_string()),
        Box::new(record.name.to_string()),
        Box::new(record.state.as_str()),
        Box::new(record.slot.map(|slot| slot.0)),
        Box::new(record.to_json()),
    ]
}

fn free_slot(conn: &Connection, slots: u32) -> Result<Option<Slot>, Error> {
    let mut query = conn.prepare("SELECT slot FROM machines WHERE slot NOT NULL ORDER BY slot")?;
    let taken = query.query_map([], |row| row.get::<_, u32>(0))?;
    let mut free = 0;
    for slot in taken {
        if slot? != free {
            break;
        }
        free += 1;
    }
    let fits = free < slots.min(u32::from(u16::MAX));
    Ok(fits.then_some(Slot(free as u16)))
}

fn check_free(conn: &Connection, record: &Record) -> Result<(), AddError> {
    let exists = |sql: &str, args: &[&dyn rusqlite::ToSql]| {
        conn.query_row(sql, args, |_| Ok(())).optional().map(|row| row.is_some())
    };
    let (id, app, name) = (record.id.to_string(), record.app.as_str(), record.name.as_str());
    let same_id = "SELECT 1 FROM machines WHERE id = ?1";
    if exists(same_id, &[&id]).map_err(Error::from)? {
        return Err(AddError::IdTaken);
    }
    let same_name = "SELECT 1 FROM machines WHERE app = ?1 AND name = ?2 AND state <> 'destroyed'";
    if exists(same_name, &[&app, &name]).map_err(Error::from)? {
        return Err(AddError::NameTaken);
    }
    Ok(())
}

fn note(conn: &Connection, record: &Record, change: &Change) -> Result<(), Error> {
    let machine = record.id.to_string();
    for event in &change.events {
        let text = serde_json::to_string(event).expect("plain data serializes");
        conn.execute("INSERT INTO events VALUES (?1, ?2, ?3)", params![event.id, machine, text])?;
    }
    if !change.events.is_empty() {
        let sql = "DELETE FROM events WHERE machine = ?1 AND id <=
            (SELECT id FROM events WHERE machine = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
        conn.execute(sql, params![machine, KEPT_EVENTS])?;
    }
    if change.new_version {
        let config = serde_json::to_string(&record.config).expect("plain data serializes");
        let version = record.instance.to_string();
        let sql = "INSERT OR REPLACE INTO versions VALUES (?1, ?2, ?3)";
        conn.execute(sql, params![machine, version, config])?;
        let sql = "DELETE FROM versions WHERE machine = ?1 AND version <=
            (SELECT version FROM versions WHERE machine = ?1
             ORDER BY version DESC LIMIT 1 OFFSET ?2)";
        conn.execute(sql, params![machine, KEPT_VERSIONS])?;
    }
    Ok(())
}
