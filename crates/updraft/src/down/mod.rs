//! `updraft down`: stops the daemon and all its VMs, and removes taps, rules and control groups.
//!
//! The machines of this host are first stopped through the daemon that runs, whatever
//! its roles, so that their processes get their signal and their time. Which ones ran
//! is recorded, and the next `up` starts them again.

mod machines;

use crate::daemon::lock::{DataDirLock, LockError};
use crate::daemon::{network_config, qemu_config};
use crate::error::DaemonError;
use crate::local_host;
use crate::restart_list::RestartList;
use crate::settings::{SettingArgs, Settings};
use clap::{Args, ValueEnum};
use machines::{How, Left, bring_down};
use network_linux::LinuxNetwork;
use rt::Tasks;
use std::collections::BTreeMap;
use std::time::Duration;
use vmm_qemu::{GuestImage, QemuHypervisor};
use worker::ports::{Hypervisor, Network, PortError};

/// Longest wait for the daemon to finish its requests and end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of the machines that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ending {
    /// Their signal, their time to end, then SIGKILL
    Stop,
    /// Memory to disk: the next `up` resumes them
    Suspend,
    /// At once, without a signal to their processes
    Kill,
}

/// Arguments of `updraft down`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DownArgs {
    /// What becomes of the machines that run
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Ending::Stop)]
    machines: Ending,
    /// How long machines may take; those that are left then are killed
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    settings: SettingArgs,
}

/// Stops the machines and the daemon of the data directory, if one runs, and
/// then every VM that is left.
pub(crate) async fn down(
    args: &DownArgs,
    vars: &BTreeMap<String, String>,
) -> Result<u8, DaemonError> {
    let mut settings = Settings::load(&args.settings, vars)?;
    if !settings.data_dir.exists() {
        eprintln!("Nothing to stop: there is no {}", settings.data_dir);
        return Ok(0);
    }
    settings.resolve_data_dir();
    let _lock = match DataDirLock::take(&settings.data_dir) {
        Ok(lock) => lock,
        Err(LockError::Held { pid }) => {
            match args.machines {
                Ending::Stop => bring_machines_down(&settings, How::Stop, args.timeout).await,
                Ending::Suspend => bring_machines_down(&settings, How::Suspend, args.timeout).await,
                Ending::Kill => {}
            }
            stop_daemon(&settings, pid).await?
        }
        Err(err) => return Err(no_lock(&err)),
    };
    let killed = clear(&settings).await.map_err(|err| {
        DaemonError::failed("Cannot stop all VMs").because_of(&err).hint("Run it again as root.")
    })?;
    if killed > 0 {
        eprintln!("Killed {killed} VMs.");
    }
    eprintln!("Everything is stopped; `updraft up` starts again what ran.");
    Ok(0)
}

/// Brings the machines down through the daemon that runs. Failures are printed, and what
/// is left is killed: `down` has to end with nothing running.
async fn bring_machines_down(settings: &Settings, how: How, timeout: Duration) {
    let tasks = Tasks::new();
    let down = async {
        let host = local_host::connect(&settings.data_dir, &tasks).await;
        let host = host.map_err(|err| Left { why: rt::chain(&err), each: Vec::new() })?;
        match host {
            Some(host) => {
                let list = RestartList::at(&settings.data_dir);
                bring_down(&host, &list, how, timeout).await
            }
            // Without the role worker it never had a machine.
            None if !settings.data_dir.join("host.db").exists() => Ok(()),
            None => {
                let why = "the daemon that runs is of an earlier version, or runs without the \
                           role worker, and cannot stop them";
                Err(Left { why: why.into(), each: Vec::new() })
            }
        }
    };
    if let Err(Left { why, each }) = down.await {
        eprintln!("Warning: the machines that are left are killed: {why}");
        each.iter().for_each(|line| eprintln!("Warning: {line}"));
    }
    tasks.stop();
}

async fn stop_daemon(settings: &Settings, pid: i32) -> Result<DataDirLock, DaemonError> {
    let process = rustix::process::Pid::from_raw(pid).filter(|_| pid > 1).ok_or_else(|| {
        DaemonError::failed("Cannot stop the daemon")
            .because("It has not written its pid yet")
            .hint("It may just be starting: run `updraft down` again.")
    })?;
    eprintln!("Stopping the daemon (pid {pid})");
    rustix::process::kill_process(process, rustix::process::Signal::TERM).map_err(|err| {
        DaemonError::failed(format!("Cannot stop the daemon (pid {pid})"))
            .because_of(&err)
            .hint("Run `updraft down` as the user that started it.")
    })?;
    let dir = settings.data_dir.clone();
    let waited = tokio::task::spawn_blocking(move || DataDirLock::wait(&dir));
    match tokio::time::timeout(PATIENCE, waited).await {
        Ok(Ok(lock)) => lock.map_err(|err| no_lock(&err)),
        _ => {
            let text = format!("The daemon (pid {pid}) did not stop within {PATIENCE:?}");
            Err(DaemonError::failed(text).hint("Its log shows what it waits for."))
        }
    }
}

fn no_lock(err: &LockError) -> DaemonError {
    DaemonError::failed("Cannot take the data directory").because_of(err)
}

/// Kills what is left and removes what is ours from the kernel; how many VMs
/// still ran.
async fn clear(settings: &Settings) -> Result<usize, PortError> {
    // First: it refuses a platform whose names another one of this host has.
    let network = LinuxNetwork::open(network_config(settings))?;
    // Nothing is booted here, so no guest image is needed.
    let guest = GuestImage { vmlinuz: "/nonexistent".into(), initramfs: "/nonexistent".into() };
    let hypervisor = QemuHypervisor::open(qemu_config(settings, guest)?)?;
    let vms = hypervisor.list().await?;
    for vm in &vms {
        hypervisor.kill(vm.machine, vm.boot).await?;
    }
    network.remove_all().await?;
    Ok(vms.iter().filter(|vm| vm.alive).count())
}
