//! `updraft down`: stops the daemon and all its VMs, and removes taps, rules and control groups.
//!
//! The machines of this host are first stopped through the API, so that their
//! processes get their signal and their time. Which ones ran is recorded, and the
//! next `up` starts them again. Without the role control there is no API here to
//! stop them through: they are killed.

use crate::daemon::lock::{DataDirLock, LockError};
use crate::daemon::{world_network_config, world_qemu_config};
use crate::error::DaemonError;
use crate::restart_list::{RestartList, Running};
use crate::settings::{SettingArgs, Settings};
use clap::{Args, ValueEnum};
use client::{Client, ListMachines, WaitQuery};
use futures_util::{StreamExt, stream};
use model::id::HostId;
use network_linux::LinuxNetwork;
use std::collections::BTreeMap;
use std::time::Duration;
use vmm_qemu::{GuestImage, QemuHypervisor};
use wire::machines::StopMachine;
use worker::ports::{Hypervisor, Network, PortError};

/// Longest wait for the daemon to finish its requests and end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Machines that are brought down at a time.
const AT_ONCE: usize = 16;

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
            if args.machines != Ending::Kill {
                stop_machines(&settings, args).await;
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

/// Brings the machines down through the API. Failures are printed, and what is left is
/// killed: `down` has to end with nothing running.
async fn stop_machines(settings: &Settings, args: &DownArgs) {
    let stopped = async {
        let (client, host) = client(settings).map_err(|why| (why, Vec::new()))?;
        let running = running(&client, host).await.map_err(|err| (rt::chain(&err), Vec::new()))?;
        RestartList::at(&settings.data_dir)
            .write(&running)
            .map_err(|err| (err.to_string(), Vec::new()))?;
        eprintln!("{} {} machines", gerund(args.machines), running.len());
        let each = running.iter().map(|machine| end(&client, machine, args.machines, args.timeout));
        let ends = stream::iter(each).buffer_unordered(AT_ONCE).collect::<Vec<_>>();
        match tokio::time::timeout(args.timeout, ends).await {
            Ok(ends) => match ends.into_iter().filter_map(Result::err).collect::<Vec<_>>() {
                failed if failed.is_empty() => Ok(()),
                failed => Err(("some machines did not stop".to_owned(), failed)),
            },
            Err(_) => Err((format!("not all stopped within {:?}", args.timeout), Vec::new())),
        }
    };
    if let Err((why, each)) = stopped.await {
        eprintln!("Warning: the machines that are left are killed: {why}");
        each.iter().for_each(|line| eprintln!("Warning: {line}"));
    }
}

fn gerund(how: Ending) -> &'static str {
    match how {
        Ending::Suspend => "Suspending",
        Ending::Stop | Ending::Kill => "Stopping",
    }
}

/// The API of the daemon that runs, and the number of its host, by what it has
/// left in its data directory.
fn client(settings: &Settings) -> Result<(Client, HostId), String> {
    let path = settings.api_address_file();
    if !path.exists() {
        return Err("this host has no API (the role control); stop its machines through the \
                    API of the platform before `updraft down`"
            .into());
    }
    let read = |path: &camino::Utf8Path| {
        std::fs::read_to_string(path).map_err(|err| format!("read {path}: {err}"))
    };
    let left = read(&path)?;
    let token = read(&settings.admin.token_file)?;
    let (address, host) = left.trim().split_once('\n').unwrap_or((left.trim(), ""));
    // A process without the role worker has no machines; an earlier version did not say.
    let host = host.trim().parse().map_or(settings.host.number, HostId);
    let client = Client::new(&format!("http://{address}"), Some(token.trim()));
    Ok((client.map_err(|err| rt::chain(&err))?, host))
}

/// The machines that run on `host`.
async fn running(client: &Client, host: HostId) -> Result<Vec<Running>, client::Error> {
    let mut running = Vec::new();
    for app in client.apps(None).await?.apps {
        let states = ["started", "starting", "restarting", "replacing"];
        let states = states.map(str::to_owned).to_vec();
        let which = ListMachines { states, host: Some(host.0), ..ListMachines::default() };
        let machines = match client.machines(&app.name, &which).await {
            // Deleted meanwhile.
            Err(err) if err.is_not_found() => continue,
            machines => machines?,
        };
        let of_app = |machine: String| Running { app: app.name.clone(), machine };
        running.extend(machines.into_iter().map(|machine| of_app(machine.id)));
    }
    Ok(running)
}

/// Brings one machine down; a line about it if that fails.
async fn end(
    client: &Client,
    Running { app, machine }: &Running,
    how: Ending,
    timeout: Duration,
) -> Result<(), String> {
    let failed = |err: client::Error| format!("machine {machine}: {}", rt::chain(&err));
    let suspended = how == Ending::Suspend && client.suspend_machine(app, machine).await.is_ok();
    if !suspended {
        // Also what cannot be suspended, for example a machine with swap.
        match client.stop_machine(app, machine, &StopMachine::default()).await {
            Err(err) if err.is_not_found() => return Ok(()),
            stopped => stopped.map_err(failed)?,
        }
    }
    let states = ["stopped", "suspended", "failed", "destroyed"].map(str::to_owned).to_vec();
    let query = WaitQuery { states, timeout, ..WaitQuery::default() };
    loop {
        match client.wait_machine(app, machine, &query).await {
            // One call waits for a minute; the caller bounds the whole.
            Err(err) if err.status() == Some(408) => {}
            Err(err) if err.is_not_found() => return Ok(()),
            waited => return waited.map(drop).map_err(failed),
        }
    }
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
            Err(DaemonError::failed(text).hint("Its log says what it waits for."))
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
    let network = LinuxNetwork::open(world_network_config(settings))?;
    // Nothing is booted here, so no guest image is needed.
    let guest = GuestImage { vmlinuz: "/nonexistent".into(), initramfs: "/nonexistent".into() };
    let hypervisor = QemuHypervisor::open(world_qemu_config(settings, guest)?)?;
    let vms = hypervisor.list().await?;
    for vm in &vms {
        hypervisor.kill(vm.machine, vm.boot).await?;
    }
    network.remove_all().await?;
    Ok(vms.iter().filter(|vm| vm.alive).count())
}
