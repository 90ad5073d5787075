//! The thread that notices when rules, addresses or routes of the host change.

use crate::netlink::{NFTABLES_GROUP, Notifications, ROUTE_GROUPS};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use worker::ports::PortError;

/// A look without a notification: notifications can be lost.
const EVERY: Duration = Duration::from_secs(5);
/// Shortest pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// The pause is at least this many times as long as the look, so that a host
/// with many routes that change all the time does not keep this thread busy.
const IDLE_SHARE: u32 = 10;

/// Calls a function after changes in the host's namespace and every few seconds,
/// until it is dropped.
#[derive(Debug)]
pub(crate) struct Guard(Arc<OwnedFd>);

impl Guard {
    /// Starts the thread in the namespace of the calling one. `check` is called
    /// with whether it is a periodic check, and returns whether to continue.
    pub(crate) fn start(
        mut check: impl FnMut(bool) -> bool + Send + 'static,
    ) -> Result<Self, PortError> {
        let failed = |err: std::io::Error| PortError::new("watch the host's network", err);
        let sources = [NFTABLES_GROUP, ROUTE_GROUPS].map(Notifications::subscribe);
        let [rules, routes] = sources;
        let (rules, routes) = (rules.map_err(failed)?, routes.map_err(failed)?);
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(|err| failed(err.into()))?);
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("network-guard".into());
        let watch = move || {
            loop {
                let changed = wait(&[&rules, &routes], &stopped, EVERY);
                let Some(changed) = changed else { return };
                if let Err(err) = rules.drain().and_then(|()| routes.drain()) {
                    tracing::warn!(%err, "cannot read notifications of the host's network");
                }
                let begun = Instant::now();
                let continues = check(!changed);
                let pause = PAUSE.max(begun.elapsed() * IDLE_SHARE);
                if !continues || wait(&[], &stopped, pause).is_none() {
                    return;
                }
            }
        };
        thread.spawn(watch).map_err(failed)?;
        Ok(Self(stop))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It cannot fail: the counter of the eventfd is far from full.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// Whether a source became readable in time; `None` if the thread is to end.
fn wait(sources: &[&Notifications], stop: &OwnedFd, limit: Duration) -> Option<bool> {
    let mut fds: Vec<PollFd<'_>> =
        sources.iter().map(|source| PollFd::new(*source, PollFlags::IN)).collect();
    fds.push(PollFd::new(stop, PollFlags::IN));
    let limit =
        Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() };
    // An interrupted wait counts as a change.
    let Ok(ready) = poll(&mut fds, Some(&limit)) else { return Some(true) };
    let stopped = fds.last().is_some_and(|stop| !stop.revents().is_empty());
    (!stopped).then_some(ready > 0)
}
