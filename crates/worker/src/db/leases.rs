//! Leases of machines in `host.db`.

use super::host_db::HostDb;
use model::id::MachineId;
use model::lease::Lease;
use rusqlite::{Connection, OptionalExtension, Row, params};
use sqlite::Error;
use std::collections::BTreeMap;

const COLUMNS: &str = "machine, nonce, owner, description, expires_ms";

impl HostDb {
    /// The last lease of a machine; it may have expired.
    pub(crate) async fn lease(&self, machine: MachineId) -> Result<Option<Lease>, Error> {
        self.0.read(move |conn| read(conn, machine)).await
    }

    /// Leases that have not expired, by the ids of their machines.
    pub(crate) async fn held_leases(&self, now_ms: u64) -> Result<BTreeMap<String, Lease>, Error> {
        self.0
            .read(move |conn| {
                let sql = format!("SELECT {COLUMNS} FROM leases WHERE expires_ms > ?1");
                let mut query = conn.prepare(&sql)?;
                let rows = query.query_map([now_ms as i64], lease_of)?;
                rows.collect::<Result<_, _>>().map_err(Error::from)
            })
            .await
    }

    /// Changes the lease of a machine by a rule that gets the last one and gives the new
    /// one, or `None` for no change, with its answer.
    pub(crate) async fn change_lease<T: Send + 'static>(
        &self,
        machine: MachineId,
        rule: impl FnOnce(Option<Lease>) -> (LeaseChange, T) + Send + 'static,
    ) -> Result<T, Error> {
        self.0
            .write(move |conn| {
                let (change, answer) = rule(read(conn, machine)?);
                match change {
                    LeaseChange::Keep => {}
                    LeaseChange::Put(lease) => put(conn, machine, &lease)?,
                    LeaseChange::Remove => remove(conn, &machine.to_string())?,
                }
                Ok(answer)
            })
            .await
    }
}

/// What becomes of a machine's lease.
#[derive(Debug)]
pub(crate) enum LeaseChange {
    Keep,
    Put(Lease),
    Remove,
}

fn lease_of(row: &Row<'_>) -> rusqlite::Result<(String, Lease)> {
    let lease = Lease {
        nonce: row.get(1)?,
        owner: row.get(2)?,
        description: row.get(3)?,
        expires_ms: u64::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
    };
    Ok((row.get(0)?, lease))
}

fn read(conn: &Connection, machine: MachineId) -> Result<Option<Lease>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM leases WHERE machine = ?1");
    let row = conn.query_row(&sql, [machine.to_string()], lease_of).optional()?;
    Ok(row.map(|(_, lease)| lease))
}

pub(super) fn put(conn: &Connection, machine: MachineId, lease: &Lease) -> Result<(), Error> {
    let sql = "INSERT OR REPLACE INTO leases VALUES (?1, ?2, ?3, ?4, ?5)";
    let expires = i64::try_from(lease.expires_ms).unwrap_or(i64::MAX);
    let Lease { nonce, owner, description, .. } = lease;
    conn.execute(sql, params![machine.to_string(), nonce, owner, description, expires])?;
    Ok(())
}

pub(super) fn remove(conn: &Connection, machine: &str) -> Result<(), Error> {
    conn.execute("DELETE FROM leases WHERE machine = ?1", [machine])?;
    Ok(())
}
