//! `updraft up`: the services of this process, until a signal stops it.

mod adapters;
mod data_dir;
mod directory;
pub(crate) mod lock;
mod logging;
mod owners;
mod peers;
mod report;
mod running;
mod serve;
mod services;
mod token;

pub(crate) use adapters::{network_config, qemu_config};

use crate::error::DaemonError;
use crate::local_host;
use crate::restart_list::RestartList;
use crate::settings::{SettingArgs, Settings};
use lock::{DataDirLock, LockError};
use rt::{Health, Tasks};
use running::Api;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Requests in flight when the daemon is stopped may take this long.
const GRACE: Duration = Duration::from_secs(15);
/// Longest wait for the lock of a daemon that was killed.
const DYING: Duration = Duration::from_secs(10);

/// Starts everything, prints that it is ready, and runs until a signal stops it. The VMs stay.
pub(crate) async fn up(
    args: &SettingArgs,
    vars: &BTreeMap<String, String>,
) -> Result<u8, DaemonError> {
    let mut settings = Settings::load(args, vars)?;
    let (lost_lines, _writer) = logging::start(&settings)?;
    // No other user may read data of machines and tokens.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    data_dir::prepare(&settings.data_dir)?;
    settings.resolve_data_dir();
    let lock = DataDirLock::take_after(&settings.data_dir, DYING);
    let _lock = lock.await.map_err(|err| in_use(&settings, &err))?;
    let _address = AddressFile::new(&settings);
    raise_open_files();
    forbid_core_dumps();
    let (tasks, health) = (Tasks::new(), Health::new());
    rt::health::watch_runtime(&tasks, health.clone(), rt::health::WatchdogLimits::default())
        .map_err(|err| failed("start the watchdog", &err))?;
    logging::report_lost_lines(lost_lines, &tasks);
    let mut stop = StopSignals::new()?;
    let running = tokio::select! {
        started = services::start(&settings, vars, &tasks, &health) => started,
        () = stop.next() => {
            tasks.shutdown(GRACE).await;
            return Ok(0);
        }
    };
    let running = match running {
        Ok(running) => running,
        Err(err) => {
            tasks.shutdown(GRACE).await;
            return Err(err);
        }
    };
    if let Some(api) = &running.api {
        leave_address(&settings, api)?;
    }
    if let Some(host) = &running.host {
        local_host::offer(&settings.data_dir, Arc::new(host.worker.clone()), &tasks)
            .map_err(|err| failed("offer this host to `updraft down`", &err))?;
    }
    report::show(&report::ready(&settings, &running));
    notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!("ready");
    if let Some(host) = &running.host {
        let (list, worker) = (RestartList::at(&settings.data_dir), host.worker.clone());
        // What ran when `updraft down` stopped it, beside everything else.
        tasks.spawn_until_stop(async move { list.start_all(&worker).await });
    }
    stop.next().await;
    tracing::info!("stopping; the machines keep running");
    notify(&[sd_notify::NotifyState::Stopping]);
    tokio::select! {
        ended = tasks.shutdown(GRACE) => if !ended {
            tracing::warn!("some work did not end within {GRACE:?} and is cut off");
        },
        // A second signal, such as Ctrl-C again, ends the wait.
        () = stop.next() => tracing::warn!("second signal: requests in flight are cut off"),
    }
    Ok(0)
}

/// The file with the API's address. It is there only while this process serves
/// the API: another program may have the port after that.
struct AddressFile(camino::Utf8PathBuf);

impl AddressFile {
    /// Removes the one that a process which was killed has left.
    fn new(settings: &Settings) -> Self {
        let file = Self(settings.api_address_file());
        file.remove();
        file
    }

    fn remove(&self) {
        if let Err(err) = std::fs::remove_file(&self.0)
            && err.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0, error = %err, "remove the file with the API's address");
        }
    }
}

impl Drop for AddressFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Leaves the API's address where scripts find it.
fn leave_address(settings: &Settings, api: &Api) -> Result<(), DaemonError> {
    let path = settings.api_address_file();
    let text = format!("{}\n", api.address);
    let written = rt::fs::write_atomic(path.as_std_path(), text.as_bytes(), 0o600);
    written.map_err(|err| failed("save the API's address", &err))
}

/// Connections, VMs and databases all need file descriptors: takes as many as
/// the host lets this process have.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(err) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(error = %err, "cannot raise the limit of open files");
    }
}

/// A core dump would have tokens and secrets in it. What the daemon starts inherits it, so
/// that no guest's memory is dumped either.
fn forbid_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(err) = setrlimit(Resource::Core, none) {
        tracing::warn!(error = %err, "cannot forbid core dumps");
    }
}

/// SIGTERM and SIGINT.
struct StopSignals(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

impl StopSignals {
    fn new() -> Result<Self, DaemonError> {
        let listen = |kind| signal(kind).map_err(|err| failed("listen for signals", &err));
        Ok(Self(listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

fn in_use(settings: &Settings, err: &LockError) -> DaemonError {
    let hint = "Stop it with `updraft down`, or give another directory with --data-dir.";
    DaemonError::failed(format!("Cannot use {}", settings.data_dir)).because_of(err).hint(hint)
}

fn failed(what: &str, err: &(dyn std::error::Error + 'static)) -> DaemonError {
    DaemonError::failed(format!("Cannot {what}")).because_of(err)
}

/// Notifies systemd; without it nothing happens.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(err) = sd_notify::notify(false, states) {
        tracing::debug!(error = %err, "cannot notify the service manager");
    }
}
