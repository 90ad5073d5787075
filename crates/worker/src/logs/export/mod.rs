//! Export of stored lines to the sinks of the settings: one task per sink (`driver`), which
//! reads the files (`batch`) from where it has come to (`marks`, and durably `db::log_exports`).
//!
//! A sink that is down loses nothing until the retention of logs overtakes it; then the number of
//! lost lines is a line of the export, of the daemon's log and of the metrics.

mod batch;
mod driver;
mod marks;
mod metrics;
#[cfg(test)]
mod tests;

pub(crate) use driver::AppNames;
pub(super) use marks::Marks;
pub(crate) use metrics::ExportMetrics;

use super::files::Index;
use crate::db::HostDb;
use crate::ports::LogSink;
use camino::Utf8PathBuf;
use driver::Export;
use rt::{Rng, Tasks};
use std::sync::Arc;

/// Where exported lines come from.
#[derive(Clone)]
pub(crate) struct Source {
    pub(super) dir: Utf8PathBuf,
    pub(super) index: Arc<Index>,
    pub(super) marks: Arc<Marks>,
}

/// Starts the exports to `sinks`.
///
/// # Errors
/// The progress of sinks that are not there any more cannot be removed.
pub(crate) async fn start(
    source: &Source,
    sinks: Vec<Arc<dyn LogSink>>,
    (db, apps, rng): (&HostDb, AppNames, &Rng),
    metrics: &ExportMetrics,
    tasks: &Tasks,
) -> Result<(), sqlite::Error> {
    let names = sinks.iter().map(|sink| sink.name().to_owned()).collect();
    db.retain_log_sinks(names).await?;
    for sink in sinks {
        let export = Export {
            metrics: metrics.of(sink.name()),
            sink,
            dir: source.dir.clone(),
            index: source.index.clone(),
            marks: source.marks.clone(),
            db: db.clone(),
            apps: apps.clone(),
            rng: rng.clone(),
        };
        tasks.spawn_service("an export of logs", export.run());
    }
    Ok(())
}
