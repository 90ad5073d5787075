//! `updraft down`: the daemon and all its VMs stopped, nothing left in the kernel.

use crate::daemon::lock::{DataDirLock, LockError};
use crate::daemon::{world_network_config, world_qemu_config};
use crate::settings::{SettingArgs, Settings};
use cli::CliError;
use network_linux::LinuxNetwork;
use std::collections::BTreeMap;
use std::time::Duration;
use vmm_qemu::{GuestImage, QemuHypervisor};
use worker::ports::{Hypervisor, Network, PortError};

/// A daemon that was told to stop finishes its requests first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stops the daemon of the data directory, if one runs, and then every VM.
/// What should run stays recorded, so the next `up` starts it again.
pub(crate) async fn down(
    args: &SettingArgs,
    vars: &BTreeMap<String, String>,
) -> Result<u8, CliError> {
    let mut settings = Settings::load(args, vars)?;
    if !settings.data_dir.exists() {
        eprintln!("Nothing to stop: there is no {}", settings.data_dir);
        return Ok(0);
    }
    settings.resolve_data_dir();
    let _lock = take_over(&settings).await?;
    let stopped = clear(&settings).await.map_err(|err| {
        CliError::failed("Cannot stop all VMs").because_of(&err).hint("Run it again as root.")
    })?;
    eprintln!("Stopped {stopped} VMs; `updraft up` starts again what should run.");
    Ok(0)
}

async fn take_over(settings: &Settings) -> Result<DataDirLock, CliError> {
    let failed =
        |err: &LockError| CliError::failed("Cannot take the data directory").because_of(err);
    let pid = match DataDirLock::take(&settings.data_dir) {
        Ok(lock) => return Ok(lock),
        Err(LockError::Held { pid }) => pid,
        Err(err) => return Err(failed(&err)),
    };
    let process = rustix::process::Pid::from_raw(pid).filter(|_| pid > 1).ok_or_else(|| {
        CliError::failed("Cannot stop the daemon").because("It has not written down its pid")
    })?;
    eprintln!("Stopping the daemon (pid {pid})");
    rustix::process::kill_process(process, rustix::process::Signal::TERM).map_err(|err| {
        CliError::failed(format!("Cannot stop the daemon (pid {pid})")).because_of(&err)
    })?;
    let dir = settings.data_dir.clone();
    let waited = tokio::task::spawn_blocking(move || DataDirLock::wait(&dir));
    match tokio::time::timeout(PATIENCE, waited).await {
        Ok(Ok(lock)) => lock.map_err(|err| failed(&err)),
        _ => Err(CliError::failed(format!("The daemon (pid {pid}) did not stop in {PATIENCE:?}"))),
    }
}

async fn clear(settings: &Settings) -> Result<usize, PortError> {
    // Nothing is booted here, so no guest image is needed.
    let guest = GuestImage { vmlinuz: "/nonexistent".into(), initramfs: "/nonexistent".into() };
    let hypervisor = QemuHypervisor::open(world_qemu_config(settings, guest)?)?;
    let vms = hypervisor.list().await?;
    for vm in &vms {
        hypervisor.kill(vm.machine, vm.boot).await?;
    }
    LinuxNetwork::open(world_network_config(settings))?.remove_all().await?;
    Ok(vms.iter().filter(|vm| vm.alive).count())
}
