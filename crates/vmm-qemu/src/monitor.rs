//! One task per running VM: notices its end, whoever causes it, and finds out
//! what there is to know of why.

use crate::args::CONSOLE_BYTES;
use crate::launch::Log;
use crate::process;
use crate::qmp::{Event, Qmp};
use crate::words;
use futures_util::future::BoxFuture;
use serde_json::json;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use worker::ports::VmExit;

/// How long a QEMU whose guest is over may take to answer and to quit.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a VM may take to do what it was asked: flushing its disks is the
/// slowest part.
const OBEY_WITHIN: Duration = Duration::from_secs(60);

/// A VM as the driver knows it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) handle: OwnedFd,
    pub(crate) log: Log,
}

/// How a VM ended, once it has.
#[derive(Clone, Debug)]
pub(crate) struct Exit(watch::Receiver<Option<VmExit>>);

impl Exit {
    pub(crate) fn channel() -> (watch::Sender<Option<VmExit>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    /// It has ended already.
    pub(crate) fn is_known(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Waits for the end. If the driver goes before the VM does, it waits for
    /// the process alone.
    pub(crate) fn wait(&self, handle: OwnedFd) -> BoxFuture<'static, VmExit> {
        let mut exit = self.0.clone();
        Box::pin(async move {
            if let Ok(known) = exit.wait_for(Option::is_some).await {
                return known.clone().unwrap_or_default();
            }
            if let Err(err) = process::ended(handle).await {
                tracing::error!(error = %rt::chain(&err), "cannot wait for a VM's process");
            }
            VmExit::default()
        })
    }
}

/// What a VM that runs can be asked.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Stand still, with everything written to the disks' files.
    Pause,
    /// Go on.
    Proceed,
    /// Write the state of the processor and the devices to this file, which is
    /// open for writing alone. The VM must stand still.
    SaveDevices(File),
}

/// The way to a VM's monitor.
#[derive(Clone, Debug)]
pub(crate) struct Control(mpsc::Sender<Ask>);

#[derive(Debug)]
pub(crate) struct Ask {
    wish: Wish,
    answer: oneshot::Sender<io::Result<()>>,
}

impl Control {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Ask>) {
        let (sender, asks) = mpsc::channel(1);
        (Self(sender), asks)
    }

    /// Asks and waits until it is done, not for ever.
    pub(crate) async fn ask(&self, wish: Wish) -> io::Result<()> {
        let gone = || io::Error::other("the VM has ended");
        let asked = async {
            let (answer, answered) = oneshot::channel();
            self.0.send(Ask { wish, answer }).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        };
        let patience = tokio::time::timeout(OBEY_WITHIN, asked).await;
        patience.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Waits until a VM whose state is being loaded has all of it.
///
/// # Errors
/// The state does not fit: QEMU ends, and its log says why.
pub(crate) async fn loaded(qmp: &mut Qmp) -> io::Result<()> {
    while status(qmp).await? == "inmigrate" {
        // Told of each step of the loading, the last one among them.
        while qmp.event().await?.event != "MIGRATION" {}
    }
    Ok(())
}

/// Whether a guest that is not over stands still: somebody was about to let it go on.
///
/// # Errors
/// QEMU has gone.
pub(crate) async fn stands_still(qmp: &mut Qmp) -> io::Result<bool> {
    Ok(matches!(status(qmp).await?.as_str(), "paused" | "save-vm" | "prelaunch"))
}

/// Watches a VM until its process has ended; then says how.
pub(crate) async fn watch(
    vm: Running,
    mut qmp: Qmp,
    mut asks: mpsc::Receiver<Ask>,
    exit: watch::Sender<Option<VmExit>>,
) {
    let mut known = VmExit::default();
    if let Some(over) = until_over(&vm, &mut qmp, &mut asks).await {
        known = over;
        // The guest is over; its process is of no more use.
        let quit = tokio::time::timeout(PATIENCE, qmp.execute("quit", json!({}))).await;
        if !matches!(quit, Ok(Ok(_))) {
            tracing::debug!(pid = vm.pid, "a halted VM does not answer and is killed");
        }
        if let Err(err) = end(&vm.handle).await {
            tracing::error!(pid = vm.pid, error = %rt::chain(&err), "cannot end a halted VM");
        }
    }
    let signal = process::reap(&vm.handle).unwrap_or(0);
    if !known.powered_off {
        known.signal = signal;
        known.last_words = words::tail(&format!("{}\n{}", known.last_words, vm.log.text()));
    }
    // Nobody may be waiting; `kill` is told all the same if it comes later.
    exit.send_replace(Some(known));
}

/// Returns when the guest is over (with how) or the process has ended (`None`).
async fn until_over(vm: &Running, qmp: &mut Qmp, asks: &mut mpsc::Receiver<Ask>) -> Option<VmExit> {
    let handle = vm.handle.try_clone().ok()?;
    let gone = process::ended(handle);
    tokio::select! {
        biased;
        // A guest that is over explains an end better than the end itself.
        over = guest_over(qmp, asks) => match over {
            Ok(exit) => Some(exit),
            // The monitor closes when the process ends, and a moment before.
            Err(_) => {
                let handle = vm.handle.try_clone().ok()?;
                if let Err(err) = process::ended(handle).await {
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
async fn guest_over(qmp: &mut Qmp, asks: &mut mpsc::Receiver<Ask>) -> io::Result<VmExit> {
    let (mut reason, mut state) = (None, status(qmp).await?);
    while reason.is_none() && !OVER.contains(&state.as_str()) {
        reason = halted(qmp, asks).await?;
        state = status(qmp).await?;
    }
    let reason = reason.or_else(|| qmp.told().find_map(shutdown_reason));
    let console = console(qmp).await;
    // Without the event (it came while no daemon was there) the console tells.
    let powered_off = match reason.as_deref() {
        Some(reason) => reason == "guest-shutdown",
        None => state == "shutdown" && !console.contains("Kernel panic"),
    };
    let last_words = if powered_off { String::new() } else { words::tail(&console) };
    Ok(VmExit { powered_off, signal: 0, last_words })
}

/// States a guest does not come back from (`RunState` of QEMU's `run-state.json`).
const OVER: [&str; 3] = ["shutdown", "internal-error", "guest-panicked"];

async fn status(qmp: &mut Qmp) -> io::Result<String> {
    let status = qmp.execute("query-status", json!({})).await?;
    Ok(status["status"].as_str().unwrap_or_default().to_owned())
}

fn shutdown_reason(event: &Event) -> Option<String> {
    let reason = event.data["reason"].as_str().unwrap_or_default();
    (event.event == "SHUTDOWN").then(|| reason.to_owned())
}

/// Waits for the next halt: the reason of a shutdown, or none for another.
/// Does what is asked meanwhile.
async fn halted(qmp: &mut Qmp, asks: &mut mpsc::Receiver<Ask>) -> io::Result<Option<String>> {
    loop {
        let event = tokio::select! {
            biased;
            event = qmp.event() => event?,
            Some(Ask { wish, answer }) = asks.recv() => {
                // Who asked may have gone; it is done all the same.
                let _ = answer.send(obey(qmp, wish).await);
                continue;
            }
        };
        let reason = shutdown_reason(&event);
        if reason.is_some() || event.event == "STOP" {
            return Ok(reason);
        }
    }
}

async fn obey(qmp: &mut Qmp, wish: Wish) -> io::Result<()> {
    match wish {
        Wish::Pause => qmp.execute("stop", json!({})).await.map(drop),
        // One that runs or is over for good is left alone.
        Wish::Proceed if !stands_still(qmp).await? => Ok(()),
        Wish::Proceed => qmp.execute("cont", json!({})).await.map(drop),
        Wish::SaveDevices(file) => save_devices(qmp, &file).await,
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

async fn console(qmp: &mut Qmp) -> String {
    let read = json!({ "device": "console", "size": CONSOLE_BYTES });
    match tokio::time::timeout(PATIENCE, qmp.execute("ringbuf-read", read)).await {
        Ok(Ok(text)) => text.as_str().unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

/// Waits for a process that was told to quit; kills it if it does not.
async fn end(handle: &OwnedFd) -> io::Result<()> {
    let quit = tokio::time::timeout(PATIENCE, process::ended(handle.try_clone()?)).await;
    if quit.is_err() {
        process::kill(handle)?;
        process::ended(handle.try_clone()?).await?;
    }
    Ok(())
}
