//! What the edge needs of the hosts, and nothing more.

use async_trait::async_trait;
use tokio::sync::mpsc;
use wire::routes::{RouteChange, RouteSnapshot, WakeRefused};

/// The hosts behind this edge.
#[async_trait]
pub trait Workers: Send + Sync + 'static {
    /// The table of all machines as of now, and every later change, numbered
    /// without gaps. A closed channel or a gap means: subscribe again.
    async fn subscribe(&self) -> (RouteSnapshot, mpsc::Receiver<(u64, RouteChange)>);

    /// Wakes a machine: returns once it is `Started` (its app may not listen
    /// yet; that arrives as a route change), at once if it already is. A
    /// machine that is on its way down is started again once it is down. The
    /// caller sees to it that one machine is woken once for many requests.
    async fn wake(&self, machine: &str) -> Result<(), WakeRefused>;

    /// Stops an idle machine (source `proxy`); the edge has already ceased to
    /// route to it. Returns once the wish is recorded.
    async fn stop_idle(&self, machine: &str, reason: &str) -> Result<(), WakeRefused>;

    /// Suspends an idle machine, or stops it where it cannot be suspended
    /// (source `proxy`); otherwise like [`Workers::stop_idle`].
    async fn suspend_idle(&self, machine: &str, reason: &str) -> Result<(), WakeRefused>;

    /// A machine whose route has become `Stopping` has nothing in flight any
    /// more, and gets nothing. The host need not wait for this.
    fn drained(&self, machine: &str);

    /// Adds a line to a machine's or an app's log (provider `proxy`).
    fn log(&self, app: &str, machine: Option<&str>, line: String);
}
