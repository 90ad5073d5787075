//! Moments at which a daemon may be killed.
//!
//! Every call of a fake passes points before, in and after what it does. An
//! armed counter stops the world at the n-th point: the call never returns, as
//! if the daemon had been killed there, and the harness is notified. The harness
//! then drops the daemon and disarms the points; guests keep running.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The counter, shared by all fakes of one world. Clones are one counter.
#[derive(Clone, Debug)]
pub struct CrashPoints(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    armed: Mutex<Armed>,
    /// Name of the point that was hit.
    hit: watch::Sender<Option<String>>,
}

#[derive(Debug, Default)]
struct Armed {
    /// Points still to pass before the crash; `None` is never.
    left: Option<u64>,
}

impl Default for CrashPoints {
    fn default() -> Self {
        let hit = watch::Sender::new(None);
        Self(Arc::new(Inner { armed: Mutex::default(), hit }))
    }
}

impl CrashPoints {
    /// Crashes at the `n`-th point from now; 1 is the next.
    pub fn arm(&self, n: u64) {
        self.lock().left = Some(n);
        self.0.hit.send_replace(None);
    }

    /// Disarms all points. Guests that wait at a point continue.
    pub fn disarm(&self) {
        self.lock().left = None;
        self.0.hit.send_replace(None);
    }

    /// Ends when a point has been hit, with its name.
    pub async fn crashed(&self) -> String {
        let mut hit = self.0.hit.subscribe();
        match hit.wait_for(Option::is_some).await.map(|name| name.clone()) {
            Ok(Some(name)) => name,
            _ => std::future::pending().await,
        }
    }

    /// A point in the daemon. If it is hit, this never returns.
    pub(crate) async fn pass(&self, name: &str) {
        if self.is_hit(name) {
            std::future::pending::<()>().await;
        }
    }

    /// A point in a guest: the daemon is killed before it receives what comes
    /// next. Returns once it is gone.
    pub(crate) async fn pass_outside(&self, name: &str) {
        if self.is_hit(name) {
            let mut hit = self.0.hit.subscribe();
            // The sender lives as long as `self`.
            let _ = hit.wait_for(Option::is_none).await;
        }
    }

    /// Once one point is hit nothing passes any other: a kill is one moment.
    fn is_hit(&self, name: &str) -> bool {
        if self.0.hit.borrow().is_some() {
            return true;
        }
        let mut armed = self.lock();
        let Some(left) = &mut armed.left else { return false };
        *left = left.saturating_sub(1);
        let hit = *left == 0;
        drop(armed);
        if hit {
            self.0.hit.send_replace(Some(name.to_owned()));
        }
        hit
    }

    fn lock(&self) -> MutexGuard<'_, Armed> {
        self.0.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
