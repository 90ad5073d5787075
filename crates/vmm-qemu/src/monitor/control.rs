//! Commands to the monitor of a VM, and how the VM ended.

use crate::process::pidfd;
use futures_util::future::BoxFuture;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use worker::ports::VmExit;

/// How long a VM may take for one command: flushing its disks is the slowest.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

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
            if let Err(err) = pidfd::ended(handle).await {
                tracing::error!(error = %rt::chain(&err), "cannot wait for a VM's process");
            }
            VmExit::default()
        })
    }
}

/// A command to the monitor of a running VM.
#[derive(Debug)]
pub(crate) enum MonitorCommand {
    /// Pause the VM, with everything written to the disks' files.
    Pause,
    /// Resume the VM if it is paused.
    Resume,
    /// Write the state of the processor and the devices to this file, which is
    /// open for writing alone. The VM must be paused.
    SaveDevices(File),
}

/// The command channel to a VM's monitor task.
#[derive(Clone, Debug)]
pub(crate) struct Control(mpsc::Sender<Request>);

#[derive(Debug)]
pub(crate) struct Request {
    pub(super) command: MonitorCommand,
    pub(super) answer: oneshot::Sender<io::Result<()>>,
}

impl Control {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Request>) {
        let (sender, requests) = mpsc::channel(1);
        (Self(sender), requests)
    }

    /// Sends a command and waits, at most [`COMMAND_TIMEOUT`], until it is carried out.
    pub(crate) async fn send(&self, command: MonitorCommand) -> io::Result<()> {
        let gone = || io::Error::other("the VM has ended");
        let answered = async {
            let (answer, answered) = oneshot::channel();
            self.0.send(Request { command, answer }).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        };
        let patience = tokio::time::timeout(COMMAND_TIMEOUT, answered).await;
        patience.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}
