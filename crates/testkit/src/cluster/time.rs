//! Time for a test of many hosts: it passes as real time does, and jumps when the
//! test advances it.
//!
//! The clock of the runtime is paused and moved by a thread, never faster than
//! real time. So a busy machine ends no deadline early, and a test waits for no
//! timeout: it jumps beyond it. A test that hangs is ended with a panic.

use rt::Clock;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::mpsc;

/// How often the time moves.
const TICK: Duration = Duration::from_millis(2);
/// Ticks after which a test hangs: two minutes.
const MAX_TICKS: usize = 60_000;
/// The time of day at which every test begins.
const BEGIN_NS: i64 = 1_700_000_000_000_000_000;

/// The time of one test. Clones are one time.
#[derive(Clone, Debug)]
pub struct SimulatedTime {
    clock: Clock,
}

impl SimulatedTime {
    /// Runs a test on a time of its own.
    ///
    /// # Panics
    /// The test panics, or does not end.
    pub fn run<T, F: Future<Output = T>>(test: impl FnOnce(Self) -> F) -> T {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime for a test");
        // Dropped before the runtime, which waits for its blocking tasks.
        let (still, blocked) = std::sync::mpsc::channel::<()>();
        // Paused time does not move by itself while blocking work is under way.
        drop(runtime.spawn_blocking(move || blocked.recv()));
        let (ticker, mut ticks) = mpsc::channel(1);
        let thread = std::thread::Builder::new().name("simulated-time".into());
        let ticking = thread.spawn(move || {
            while !ticker.is_closed() {
                std::thread::sleep(TICK);
                // A tick that the test has no time for is left out.
                let _ = ticker.try_send(());
            }
        });
        ticking.expect("a thread for the time of a test");
        let time = Self { clock: Clock::manual(BEGIN_NS) };
        let passing = time.clone();
        let passes = async move {
            for _ in 0..MAX_TICKS {
                ticks.recv().await;
                passing.advance(TICK).await;
            }
        };
        let out = runtime.block_on(async {
            tokio::select! {
                out = test(time) => out,
                () = passes => panic!("the test does not end"),
            }
        });
        drop(still);
        out
    }

    /// The time of day, which goes with it.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Moves the time: everything that waits for a moment until then is woken.
    pub async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        tokio::time::advance(by).await;
    }
}
