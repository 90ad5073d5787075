//! Where fake guests live: a thread that no daemon owns.

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

/// Runs guests; ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Land(mpsc::UnboundedSender<BoxFuture<'static, ()>>);

impl Land {
    pub(crate) fn new() -> Self {
        let (sender, mut arrivals) = mpsc::unbounded_channel::<BoxFuture<'static, ()>>();
        let live = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.expect("a runtime for fake guests");
            runtime.block_on(async {
                let mut guests = tokio::task::JoinSet::new();
                while let Some(guest) = arrivals.recv().await {
                    guests.spawn(guest);
                }
            });
        };
        let thread = std::thread::Builder::new().name("fake-guests".into()).spawn(live);
        thread.expect("a thread for fake guests");
        Self(sender)
    }

    /// Runs `future` there.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        // The thread ends only after the last sender.
        let _ = self.0.send(Box::pin(future));
    }
}
