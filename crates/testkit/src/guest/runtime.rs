//! The runtime of fake guests: a thread that no daemon owns.

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

/// Runs guests; its thread ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct GuestRuntime(mpsc::UnboundedSender<BoxFuture<'static, ()>>);

impl GuestRuntime {
    pub(crate) fn new() -> Self {
        let (sender, mut arrivals) = mpsc::unbounded_channel::<BoxFuture<'static, ()>>();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.expect("a runtime for fake guests");
            runtime.block_on(async {
                let mut guests = tokio::task::JoinSet::new();
                while let Some(guest) = arrivals.recv().await {
                    guests.spawn(guest);
                }
            });
        };
        let thread = std::thread::Builder::new().name("fake-guests".into()).spawn(run);
        thread.expect("a thread for fake guests");
        Self(sender)
    }

    /// Runs a task on it.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        // The thread ends only after the last sender.
        let _ = self.0.send(Box::pin(future));
    }
}
