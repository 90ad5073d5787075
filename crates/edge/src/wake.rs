//! Waking machines: one call to the host per machine, for however many requests.

use crate::core::Shared;
use crate::machine::{Flight, Machine};
use crate::table::Target;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use tokio::sync::watch;
use wire::routes::WakeRefused;

/// Wakes a machine, or joins the wake under way.
pub(crate) fn wake(shared: &Arc<Shared>, target: &Target) -> Flight {
    let machine = &target.machine;
    let start = || {
        let (done, flight) = watch::channel(None);
        shared.metrics.wakes.inc();
        shared.spawn(call(shared.clone(), machine.clone(), done));
        flight
    };
    machine.flight(target.version, start)
}

type Done = watch::Sender<Option<Result<(), WakeRefused>>>;

async fn call(shared: Arc<Shared>, machine: Arc<Machine>, done: Done) {
    let began = tokio::time::Instant::now();
    let answer = loop {
        let stops = machine.stops();
        let answer = once(&shared, &machine).await;
        // It did not fail: it was stopped on its way up, and is still wanted.
        let failed = matches!(answer, Err(WakeRefused::Failed(_)));
        let stopped = failed && machine.stops() != stops;
        if !stopped || machine.app.waiting.load(SeqCst) == 0 {
            break answer;
        }
    };
    shared.metrics.woke("host_call", began.elapsed());
    if let Err(why) = &answer {
        tracing::info!(machine = machine.id, app = machine.app.name, ?why, "wake refused");
    }
    done.send_replace(Some(answer));
    machine.app.changed.notify_waiters();
}

async fn once(shared: &Shared, machine: &Machine) -> Result<(), WakeRefused> {
    // Not before a stop that was begun has been recorded: the host would say
    // "it runs" and stop it afterwards.
    let _life = machine.life.lock().await;
    let answer = shared.workers.wake(&machine.id).await;
    if answer.is_ok() && machine.is_draining() {
        // It has been down and up again, even if the table never showed it.
        machine.bump_epoch();
        machine.undrain();
    }
    answer
}
