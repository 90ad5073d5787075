//! A port of a guest that can be connected to.

use super::FakeHypervisor;
use model::id::MachineId;
use std::io;
use std::sync::PoisonError;
use tokio::sync::watch;
use worker::ports::VmExit;

/// A process in a guest that listens on a port.
#[derive(Debug)]
pub struct GuestListener {
    /// Whose guest it is.
    pub machine: MachineId,
    exit: watch::Receiver<Option<VmExit>>,
}

impl GuestListener {
    /// Returns once its VM has ended.
    pub async fn ended(mut self) {
        // Its sender ends with the VM.
        let _ = self.exit.wait_for(Option::is_some).await;
    }
}

impl FakeHypervisor {
    /// Who listens on a port of the VM that has this network card; `None` if its
    /// guest is paused.
    ///
    /// # Errors
    /// No such VM runs, or its guest does not listen there.
    pub fn listener(&self, mac: [u8; 6], port: u16) -> io::Result<Option<GuestListener>> {
        let host = self.lock();
        let found = host.vms.iter().find(|(_, vm)| vm.mac == Some(mac) && vm.alive());
        let ((machine, _), vm) = found.ok_or(io::ErrorKind::HostUnreachable)?;
        if !vm.ran {
            return Ok(None);
        }
        let listening = vm.listening.lock().unwrap_or_else(PoisonError::into_inner);
        if !listening.contains(&port) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(Some(GuestListener { machine: *machine, exit: vm.exit.clone() }))
    }
}
