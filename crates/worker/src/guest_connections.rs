//! Connections of guests' processes to the platform's API, on their way to the one
//! subscriber that answers them.

use crate::ports::{AgentIo, GuestApi};
use host_api::{GuestConnection, GuestListener};
use model::id::{AppId, MachineId};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Connections that may wait for the subscriber; more are closed at once.
const WAITING: usize = 256;

/// Where guests' connections go. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct GuestConnections(Arc<Mutex<Option<mpsc::Sender<GuestConnection>>>>);

impl GuestConnections {
    /// The newest subscriber gets the connections.
    pub(crate) fn subscribe(&self) -> mpsc::Receiver<GuestConnection> {
        let (sender, receiver) = mpsc::channel(WAITING);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    fn offer(&self, connection: GuestConnection) {
        let subscriber = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(subscriber) = subscriber {
            // Without room it is dropped, which closes it; the guest tries again.
            let _ = subscriber.try_send(connection);
        }
    }
}

/// Offers the connections of machines of one app.
pub(crate) struct OfApp {
    pub(crate) connections: GuestConnections,
    pub(crate) app: AppId,
}

impl GuestApi for OfApp {
    fn serve(&self, machine: MachineId, _app: &str, listener: GuestListener, io: Box<dyn AgentIo>) {
        let (app, io) = (self.app, Box::new(io));
        self.connections.offer(GuestConnection { machine, app, listener, io });
    }
}
