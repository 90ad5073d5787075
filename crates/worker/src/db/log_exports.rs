//! How far the exports of logs have come, in `host.db`.

use super::host_db::HostDb;
use rusqlite::params;
use sqlite::Error;
use std::collections::BTreeMap;

impl HostDb {
    /// The number of the last line that was delivered to a sink, by log.
    pub(crate) async fn log_cursors(&self, sink: &str) -> Result<BTreeMap<String, u64>, Error> {
        let sink = sink.to_owned();
        self.0
            .read(move |conn| {
                let sql = "SELECT log, number FROM log_exports WHERE sink = ?1";
                let mut query = conn.prepare(sql)?;
                let row = |row: &rusqlite::Row<'_>| {
                    Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0)))
                };
                let rows = query.query_map([sink], row)?;
                rows.collect::<Result<_, _>>().map_err(Error::from)
            })
            .await
    }

    /// Stores how far a sink has come with some logs; `None` for a log that is not there any more.
    pub(crate) async fn put_log_cursors(
        &self,
        sink: &str,
        cursors: BTreeMap<String, Option<u64>>,
    ) -> Result<(), Error> {
        let sink = sink.to_owned();
        self.0
            .write(move |conn| {
                for (log, number) in cursors {
                    let Some(number) = number else {
                        let sql = "DELETE FROM log_exports WHERE sink = ?1 AND log = ?2";
                        conn.execute(sql, params![sink, log])?;
                        continue;
                    };
                    let number = i64::try_from(number).unwrap_or(i64::MAX);
                    let sql = "INSERT OR REPLACE INTO log_exports VALUES (?1, ?2, ?3)";
                    conn.execute(sql, params![sink, log, number])?;
                }
                Ok(())
            })
            .await
    }

    /// Removes what is known of all other sinks.
    pub(crate) async fn retain_log_sinks(&self, sinks: Vec<String>) -> Result<(), Error> {
        self.0
            .write(move |conn| {
                let mut query = conn.prepare("SELECT DISTINCT sink FROM log_exports")?;
                let rows = query.query_map([], |row| row.get::<_, String>(0))?;
                let known: Vec<String> = rows.collect::<Result<_, _>>()?;
                for sink in known.iter().filter(|sink| !sinks.contains(sink)) {
                    conn.execute("DELETE FROM log_exports WHERE sink = ?1", [sink])?;
                }
                Ok(())
            })
            .await
    }
}
