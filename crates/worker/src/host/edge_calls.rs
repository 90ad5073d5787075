//! The calls that the edge makes on this host, as plain methods.

use super::registry::Worker;
use crate::machine::Request;
use crate::machine::view::View;
use crate::machine::wait::wait;
use model::life::{State, Want};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use wire::routes::{RouteChange, RouteSnapshot, WakeRefused};
use wire::worker::{HostError, Source, Stop, WaitFor};

/// A wake that takes longer has failed; the edge's own deadline is normally shorter.
const WAKE_DEADLINE: Duration = Duration::from_secs(300);

impl Worker {
    /// The routes of all machines and their changes.
    pub fn subscribe(&self) -> (RouteSnapshot, mpsc::Receiver<(u64, RouteChange)>) {
        self.0.context.routes.subscribe()
    }

    /// Wakes a machine for the edge: returns once it is started.
    ///
    /// # Errors
    /// It is gone, may not be started, or did not start.
    pub async fn wake(&self, id: &str) -> Result<(), WakeRefused> {
        let handle = self.handle(id).map_err(|_| WakeRefused::Gone)?;
        if handle.view().record.state == State::Started {
            return Ok(());
        }
        let views = handle.views.clone();
        let wanted = WaitFor {
            states: vec!["started".into()],
            timeout_ms: WAKE_DEADLINE.as_millis() as u64,
            ..WaitFor::default()
        };
        let asked = self.ask(&handle, |reply| Request::Start(Source::Proxy, reply)).await;
        match asked {
            Ok(_) => {}
            Err(HostError::NoCapacity(why)) => return Err(WakeRefused::NoCapacity(why)),
            Err(HostError::NotFound(_)) => return Err(WakeRefused::Gone),
            Err(other) => return Err(WakeRefused::NotStartable(other.to_string())),
        }
        let mut stopped_again = handle.views.clone();
        let down = |view: &Arc<View>| {
            let record = &view.record;
            let down = matches!(record.state, State::Stopped | State::Suspended | State::Created);
            down && record.want != Want::Run
        };
        tokio::select! {
            biased;
            started = wait(views, &wanted) => {
                started.map(drop).map_err(|err| WakeRefused::Failed(err.to_string()))
            }
            // It was stopped while it came up.
            _ = stopped_again.wait_for(down) => {
                Err(WakeRefused::Failed("it was stopped before it was started".into()))
            }
        }
    }

    /// The edge has no request in flight at a machine that is to be stopped. A full
    /// inbox may drop this: the machine's task waits only for a limited time.
    pub fn drained(&self, id: &str) {
        if let Ok(handle) = self.handle(id) {
            let _ = handle.requests.try_send(Request::Drained);
        }
    }

    /// Stops an idle machine for the edge.
    ///
    /// # Errors
    /// It is gone or cannot be stopped now.
    pub async fn stop_idle(&self, id: &str, reason: &str) -> Result<(), WakeRefused> {
        let stop = self.stop(id, Stop::default(), Source::Proxy, Some(reason.into())).await;
        stop.map_err(refused)
    }

    /// Suspends an idle machine for the edge, or stops it where it cannot be
    /// suspended.
    ///
    /// # Errors
    /// It is gone or cannot be suspended or stopped now.
    pub async fn suspend_idle(&self, id: &str, reason: &str) -> Result<(), WakeRefused> {
        let view = self.handle(id).map_err(refused)?.view();
        if let Some(why) = view.record.unsuspendable() {
            let reason = format!("{reason}; it cannot be suspended: {why}");
            return self.stop_idle(id, &reason).await;
        }
        let suspend = self.suspend_because(id, Source::Proxy, Some(reason.into())).await;
        suspend.map_err(refused)
    }
}

fn refused(err: HostError) -> WakeRefused {
    match err {
        HostError::NotFound(_) => WakeRefused::Gone,
        other => WakeRefused::NotStartable(other.to_string()),
    }
}
