//! Schedules and their runs in `host.db`.

use super::host_db::HostDb;
use crate::schedules::run::{Run, Status};
use model::id::MachineId;
use rusqlite::{OptionalExtension, params};
use sqlite::Error;

/// Runs kept per machine; older ones are removed.
const KEPT_RUNS: u32 = 100;

/// How far a machine's schedule has been dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Names the schedule.
    pub(crate) spec: String,
    /// Milliseconds since the epoch.
    pub(crate) done_ms: u64,
}

impl HostDb {
    /// The progress of a machine's schedule, and its runs, newest first.
    pub(crate) async fn schedule(
        &self,
        machine: MachineId,
    ) -> Result<(Option<Progress>, Vec<Run>), Error> {
        let progress = self.0.read(move |conn| {
            let sql = "SELECT spec, done_ms FROM schedules WHERE machine = ?1";
            let row = conn.query_row(sql, [machine.to_string()], |row| {
                let done_ms = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
                Ok(Progress { spec: row.get(0)?, done_ms })
            });
            row.optional().map_err(Error::from)
        });
        let progress = progress.await?;
        Ok((progress, self.runs(machine, KEPT_RUNS as usize).await?))
    }

    /// Notes the progress of a schedule, and runs that are new or have changed.
    pub(crate) async fn save_schedule(
        &self,
        machine: MachineId,
        progress: Progress,
        runs: Vec<Run>,
    ) -> Result<(), Error> {
        self.0
            .write(move |conn| {
                let machine = machine.to_string();
                let done_ms = i64::try_from(progress.done_ms).unwrap_or(i64::MAX);
                let sql = "INSERT OR REPLACE INTO schedules VALUES (?1, ?2, ?3)";
                conn.execute(sql, params![machine, progress.spec, done_ms])?;
                for run in &runs {
                    let text = serde_json::to_string(run).expect("plain data serializes");
                    let sql = "INSERT OR REPLACE INTO runs VALUES (?1, ?2, ?3)";
                    conn.execute(sql, params![run.id, machine, text])?;
                }
                let sql = "DELETE FROM runs WHERE machine = ?1 AND id <=
                    (SELECT id FROM runs WHERE machine = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
                conn.execute(sql, params![machine, KEPT_RUNS])?;
                Ok(())
            })
            .await
    }

    /// The run that a call with this key has asked for. One that was refused is none: its
    /// repetition is a new try.
    pub(crate) async fn run_of_call(
        &self,
        machine: MachineId,
        key: &str,
    ) -> Result<Option<Run>, Error> {
        let mut runs = self.runs(machine, KEPT_RUNS as usize).await?.into_iter();
        Ok(runs.find(|run| run.call.as_deref() == Some(key) && run.status != Status::Refused))
    }

    /// Newest first. One that does not parse is left out: runs are only shown.
    pub(crate) async fn runs(&self, machine: MachineId, limit: usize) -> Result<Vec<Run>, Error> {
        let rows = self.0.read(move |conn| {
            let sql = "SELECT run FROM runs WHERE machine = ?1 ORDER BY id DESC LIMIT ?2";
            let mut query = conn.prepare(sql)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = query
                .query_map(params![machine.to_string(), limit], |row| row.get::<_, String>(0))?;
            rows.collect::<Result<Vec<_>, _>>().map_err(Error::from)
        });
        let rows = rows.await?;
        Ok(rows.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }
}
