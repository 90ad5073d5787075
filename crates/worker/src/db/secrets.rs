//! The sealed secrets of the apps whose machines this host has.

use super::HostDb;
use model::id::AppId;
use rusqlite::{OptionalExtension, params};
use sqlite::Error;

/// The secrets of one app, as stored.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SealedSecrets {
    pub(crate) version: u64,
    pub(crate) sealed: Vec<u8>,
}

impl HostDb {
    /// Version of the secrets that are stored of an app.
    pub(crate) async fn secrets_version(&self, app: AppId) -> Result<Option<u64>, Error> {
        self.0
            .read(move |conn| {
                let sql = "SELECT version FROM sealed_secrets WHERE app_id = ?1";
                let row = conn.query_row(sql, [app.0], |row| row.get::<_, i64>(0)).optional()?;
                Ok(row.map(i64::cast_unsigned))
            })
            .await
    }

    /// The secrets that are stored of an app.
    pub(crate) async fn secrets(&self, app: AppId) -> Result<Option<SealedSecrets>, Error> {
        self.0
            .read(move |conn| {
                let sql = "SELECT version, sealed FROM sealed_secrets WHERE app_id = ?1";
                let row = conn.query_row(sql, [app.0], |row| {
                    let version = row.get::<_, i64>(0)?.cast_unsigned();
                    Ok(SealedSecrets { version, sealed: row.get(1)? })
                });
                Ok(row.optional()?)
            })
            .await
    }

    /// Stores the secrets of an app, unless those of the same or a later version are there.
    pub(crate) async fn put_secrets(
        &self,
        app: AppId,
        secrets: SealedSecrets,
        now_ms: u64,
    ) -> Result<(), Error> {
        self.0
            .write(move |conn| {
                let sql = "INSERT INTO sealed_secrets VALUES (?1, ?2, ?3, ?4)
                           ON CONFLICT (app_id) DO UPDATE SET version = excluded.version,
                           sealed = excluded.sealed, put_ms = excluded.put_ms
                           WHERE version < excluded.version";
                let version = secrets.version.cast_signed();
                let row = params![app.0, version, secrets.sealed, now_ms.cast_signed()];
                conn.execute(sql, row)?;
                Ok(())
            })
            .await
    }

    /// Removes the secrets of apps without a machine here. Those that were stored after
    /// `since_ms` may be for a machine that is about to be created.
    pub(crate) async fn forget_secrets(&self, since_ms: u64) -> Result<(), Error> {
        const UNUSED: &str = "put_ms <= ?1 AND NOT EXISTS (SELECT 1 FROM machines
                              WHERE app_id = sealed_secrets.app_id AND state <> 'destroyed')";
        let since = since_ms.cast_signed();
        let any = self.0.read(move |conn| {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM sealed_secrets WHERE {UNUSED})");
            conn.query_row(&sql, [since], |row| row.get::<_, bool>(0)).map_err(Error::from)
        });
        if !any.await? {
            return Ok(());
        }
        self.0
            .write(move |conn| {
                conn.execute(&format!("DELETE FROM sealed_secrets WHERE {UNUSED}"), [since])?;
                Ok(())
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Change;
    use crate::record::Record;
    use crate::record::tests::sample;
    use model::life::State;
    use rt::FailureHandler;
    use std::collections::BTreeSet;

    fn of(version: u64, sealed: &str) -> SealedSecrets {
        SealedSecrets { version, sealed: sealed.as_bytes().to_vec() }
    }

    #[tokio::test]
    async fn the_latest_version_is_kept_while_the_app_has_machines() {
        let dir = tempfile::tempdir().unwrap();
        let db = HostDb::open(&dir.path().join("host.db"), FailureHandler::abort()).unwrap();
        let app = sample().app;
        let stored = async || db.secrets(app).await.unwrap().map(|found| found.version);
        assert_eq!(stored().await, None);
        db.put_secrets(app, of(5, "five"), 100).await.unwrap();
        db.put_secrets(app, of(4, "four"), 200).await.unwrap();
        db.put_secrets(app, of(5, "other"), 200).await.unwrap();
        assert!(db.secrets(app).await.unwrap() == Some(of(5, "five")));
        assert_eq!(db.secrets_version(app).await.unwrap(), Some(5));
        // It may be for a machine whose create is on its way.
        db.forget_secrets(99).await.unwrap();
        assert_eq!(stored().await, Some(5));
        let record = db.add(
            |slot| Record { slot: Some(slot), ..sample() },
            4,
            BTreeSet::new(),
            Change::default(),
        );
        let mut record = record.await.map_err(|err| err.to_string()).unwrap();
        db.forget_secrets(100).await.unwrap();
        assert_eq!(stored().await, Some(5), "there is a machine");
        (record.state, record.slot) = (State::Destroyed, None);
        db.save(record, Change::default()).await.unwrap();
        db.forget_secrets(100).await.unwrap();
        assert_eq!(stored().await, None);
    }
}
