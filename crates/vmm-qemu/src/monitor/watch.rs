//! One task per running VM: carries out commands, notices the end of the guest or of
//! its process, and finds out why it ended.

use crate::monitor::console::{self, CONSOLE_BYTES};
use crate::monitor::control::{MonitorCommand, Request};
use crate::monitor::qmp::{Event, Qmp};
use crate::process::log::Log;
use crate::process::pidfd;
use serde_json::json;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use worker::ports::VmExit;

/// How long a QEMU whose guest has ended may take to answer and to quit.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);

/// A VM as the driver knows it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) handle: OwnedFd,
    pub(crate) log: Log,
}

/// Waits until a VM whose state is being loaded has all of it.
///
/// # Errors
/// The state does not fit: QEMU ends, and its log has the reason.
pub(crate) async fn loaded(qmp: &mut Qmp) -> io::Result<()> {
    while status(qmp).await? == "inmigrate" {
        // QEMU sends an event for each step of the loading, also for the last one.
        while qmp.event().await?.event != "MIGRATION" {}
    }
    Ok(())
}

/// Whether the VM is paused with a guest that has not ended.
///
/// # Errors
/// The connection is closed.
pub(crate) async fn is_paused(qmp: &mut Qmp) -> io::Result<bool> {
    Ok(matches!(status(qmp).await?.as_str(), "paused" | "save-vm" | "prelaunch"))
}

/// Watches a VM until its process has ended; then reports how.
pub(crate) async fn watch(
    vm: Running,
    mut qmp: Qmp,
    mut requests: mpsc::Receiver<Request>,
    exit: watch::Sender<Option<VmExit>>,
) {
    let mut known = VmExit::default();
    if let Some(exit_reason) = until_ended(&vm, &mut qmp, &mut requests).await {
        known = exit_reason;
        // The guest has ended; its process is of no more use.
        let quit = tokio::time::timeout(QUIT_TIMEOUT, qmp.execute("quit", json!({}))).await;
        if !matches!(quit, Ok(Ok(_))) {
            tracing::debug!(pid = vm.pid, "a halted VM does not answer and is killed");
        }
        if let Err(err) = end(&vm.handle).await {
            tracing::error!(pid = vm.pid, error = %rt::chain(&err), "cannot end a halted VM");
        }
    }
    let signal = pidfd::reap(&vm.handle).unwrap_or(0);
    if !known.powered_off {
        known.signal = signal;
        // The log has the first 64 KiB: of a VM that wrote more before, the reason of its
        // end is not in it.
        known.console_tail = console::tail(&format!("{}\n{}", known.console_tail, vm.log.text()));
    }
    // There may be no receiver yet; a later `kill` reads the value all the same.
    exit.send_replace(Some(known));
}

/// Returns how the guest ended, or `None` once the process has ended.
async fn until_ended(
    vm: &Running,
    qmp: &mut Qmp,
    requests: &mut mpsc::Receiver<Request>,
) -> Option<VmExit> {
    let handle = vm.handle.try_clone().ok()?;
    let gone = pidfd::ended(handle);
    tokio::select! {
        biased;
        // How the guest ended explains the end better than the exit of the process.
        over = guest_ended(qmp, requests) => match over {
            Ok(exit) => Some(exit),
            // The monitor closes when the process ends, and a moment before.
            Err(_) => {
                let handle = vm.handle.try_clone().ok()?;
                if let Err(err) = pidfd::ended(handle).await {
                    tracing::error!(pid = vm.pid, error = %rt::chain(&err), "cannot wait for a VM");
                }
                None
            }
        },
        _ = gone => None,
    }
}

/// Waits until the guest has powered off, panicked, or run into what the
/// processor cannot do.
async fn guest_ended(qmp: &mut Qmp, requests: &mut mpsc::Receiver<Request>) -> io::Result<VmExit> {
    let (mut reason, mut state) = (None, status(qmp).await?);
    while reason.is_none() && !ENDED.contains(&state.as_str()) {
        reason = halted(qmp, requests).await?;
        state = status(qmp).await?;
    }
    let reason = reason.or_else(|| qmp.pending_events().find_map(shutdown_reason));
    let console = read_console(qmp).await;
    // Without the event (it came while no daemon was there) the console shows it.
    let powered_off = match reason.as_deref() {
        Some(reason) => reason == "guest-shutdown",
        None => state == "shutdown" && !console.contains("Kernel panic"),
    };
    let console_tail = if powered_off { String::new() } else { console::tail(&console) };
    Ok(VmExit { powered_off, signal: 0, console_tail })
}

/// States a guest does not come back from (`RunState` of QEMU's `run-state.json`).
const ENDED: [&str; 3] = ["shutdown", "internal-error", "guest-panicked"];

async fn status(qmp: &mut Qmp) -> io::Result<String> {
    let status = qmp.execute("query-status", json!({})).await?;
    Ok(status["status"].as_str().unwrap_or_default().to_owned())
}

fn shutdown_reason(event: &Event) -> Option<String> {
    let reason = event.data["reason"].as_str().unwrap_or_default();
    (event.event == "SHUTDOWN").then(|| reason.to_owned())
}

/// Waits for the next halt: the reason of a shutdown, or none for another.
/// Carries out commands meanwhile.
async fn halted(
    qmp: &mut Qmp,
    requests: &mut mpsc::Receiver<Request>,
) -> io::Result<Option<String>> {
    loop {
        let event = tokio::select! {
            biased;
            event = qmp.event() => event?,
            Some(Request { command, answer }) = requests.recv() => {
                // The requester may have stopped waiting; the command is carried out all the same.
                let _ = answer.send(execute_command(qmp, command).await);
                continue;
            }
        };
        let reason = shutdown_reason(&event);
        if reason.is_some() || event.event == "STOP" {
            return Ok(reason);
        }
    }
}

async fn execute_command(qmp: &mut Qmp, command: MonitorCommand) -> io::Result<()> {
    match command {
        MonitorCommand::Pause => qmp.execute("stop", json!({})).await.map(drop),
        // A VM that runs or whose guest has ended is left alone.
        MonitorCommand::Resume if !is_paused(qmp).await? => Ok(()),
        MonitorCommand::Resume => qmp.execute("cont", json!({})).await.map(drop),
        MonitorCommand::SaveDevices(file) => save_devices(qmp, &file).await,
    }
}

/// Named after its first user, the command writes what `migrate` would, without
/// any memory: that is the host's to keep. See qapi/migration.json.
async fn save_devices(qmp: &mut Qmp, file: &File) -> io::Result<()> {
    const SET: u32 = 100;
    let set = json!({ "fdset-id": SET });
    qmp.execute_with("add-fd", set.clone(), file.as_fd()).await?;
    let to = json!({ "filename": format!("/dev/fdset/{SET}") });
    let saved = qmp.execute("xen-save-devices-state", to).await;
    qmp.execute("remove-fd", set).await?;
    saved.map(drop)
}

async fn read_console(qmp: &mut Qmp) -> String {
    let read = json!({ "device": "console", "size": CONSOLE_BYTES });
    match tokio::time::timeout(QUIT_TIMEOUT, qmp.execute("ringbuf-read", read)).await {
        Ok(Ok(text)) => text.as_str().unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

/// Waits for a process that was sent `quit`; kills it if it does not.
async fn end(handle: &OwnedFd) -> io::Result<()> {
    let quit = tokio::time::timeout(QUIT_TIMEOUT, pidfd::ended(handle.try_clone()?)).await;
    if quit.is_err() {
        pidfd::kill(handle)?;
        pidfd::ended(handle.try_clone()?).await?;
    }
    Ok(())
}
