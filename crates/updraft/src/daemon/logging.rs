//! The daemon's log: lines to stderr, written by a thread of their own. Their
//! reader may be slow; the tasks of the platform do not wait for that.

use crate::error::DaemonError;
use crate::settings::Settings;
use rt::Tasks;
use std::io::Write;
use std::time::Duration;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that wait to be written; further ones are dropped, and counted.
const WAITING_LINES: usize = 16 * 1024;
/// Pause between two looks at how many were dropped.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Begins the log. The guard writes the last lines when it is dropped.
pub(super) fn start(settings: &Settings) -> Result<(ErrorCounter, WorkerGuard), DaemonError> {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter = EnvFilter::try_new(&settings.log.filter).map_err(|err| {
        DaemonError::usage("Cannot use this log filter").because_of(&err).hint("Try --log=info.")
    })?;
    let (writer, guard) = writer(std::io::stderr(), WAITING_LINES);
    let lost = writer.error_counter();
    let builder = fmt().with_env_filter(filter).with_writer(writer);
    match settings.log.json {
        true => builder.json().init(),
        false => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
    }
    Ok((lost, guard))
}

fn writer(to: impl Write + Send + 'static, lines: usize) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().lossy(true).buffered_lines_limit(lines).finish(to)
}

/// Logs how many lines are missing in the log.
pub(super) fn report_lost_lines(lost: ErrorCounter, tasks: &Tasks) {
    tasks.spawn_until_stop(async move {
        let mut every = tokio::time::interval(REPORT_EVERY);
        let mut known = 0;
        loop {
            every.tick().await;
            let lines = lost.dropped_lines() - known;
            known += lines;
            if lines > 0 {
                tracing::warn!(lines, "lines of this log were dropped: its reader is too slow");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Writes nothing until its channel is closed.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_no_time() {
        let (release, stuck) = mpsc::channel();
        let (mut to, guard) = writer(Stuck(stuck), 10);
        for _ in 0..100 {
            to.write_all(b"line\n").unwrap();
        }
        // One is being written, ten wait.
        let lost = to.error_counter().dropped_lines();
        assert!((89..=90).contains(&lost), "{lost}");
        drop(release);
        drop(guard);
    }
}
