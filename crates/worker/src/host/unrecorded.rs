//! Refuses to start with an empty database beside machines of an earlier one: recovery
//! would take all of them for leftovers and remove them.

use super::start_error::StartError;
use crate::context::HostConfig;
use crate::db::HostDb;
use crate::ports::Hypervisor;
use camino::Utf8Path;
use std::io;

/// Opens the database of the host.
///
/// # Errors
/// It cannot be opened; or it is new, or was never used, although there are machines of
/// the host, and by the settings they are not to be removed.
pub(super) async fn open_database(
    config: &HostConfig,
    hypervisor: &dyn Hypervisor,
    failures: rt::FailureHandler,
) -> Result<HostDb, StartError> {
    let path = config.data_dir.join("host.db");
    // Looked at before the file is made: one that is restored must not find the journal
    // of another beside it.
    if !path.exists() {
        refuse_unrecorded(config, hypervisor).await?;
    }
    let db = HostDb::open(path.as_std_path(), failures).map_err(StartError::Database)?;
    if db.is_unused().await.map_err(StartError::Database)? {
        refuse_unrecorded(config, hypervisor).await?;
    }
    Ok(db)
}

async fn refuse_unrecorded(
    config: &HostConfig,
    hypervisor: &dyn Hypervisor,
) -> Result<(), StartError> {
    let path = config.data_dir.join("machines");
    let failed = |err| StartError::Prepare { path: path.clone(), err };
    let directories = directories(&path).map_err(failed)?;
    let vms = hypervisor.list().await.map_err(StartError::Port)?.len();
    if directories == 0 && vms == 0 {
        return Ok(());
    }
    if config.discard_unrecorded {
        tracing::warn!(directories, vms, "removing machines that the database does not name");
        return Ok(());
    }
    let database = config.data_dir.join("host.db");
    Err(StartError::Unrecorded { database, directories, vms })
}

/// Directories of machines.
fn directories(path: &Utf8Path) -> io::Result<usize> {
    match path.read_dir_utf8() {
        Ok(entries) => Ok(entries.count()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(err) => Err(err),
    }
}
