//! Leases: durable, ended by their own time, one at a time, and no concern of the platform.

use crate::daemon::Settings;
use crate::lab::{Lab, edge, user};
use host_api::{AcquireLease, CallContext, HostError, Leases, Load, Machines, Stop};
use model::id::MachineId;

const MINUTE: u64 = 60_000;

fn wanted(nonce: &str, ttl_ms: u64) -> AcquireLease {
    AcquireLease { nonce: nonce.into(), owner: nonce.into(), description: None, ttl_ms }
}

fn with(nonce: &str) -> CallContext {
    CallContext { lease_nonce: Some(nonce.into()), ..user() }
}

/// A lab with a started machine that `a` holds for a minute.
fn leased() -> (Lab, MachineId) {
    let clock = rt::Clock::manual(1_700_000_000_000_000_000);
    let mut lab = Lab::new(Settings { paused: true, clock, ..Settings::default() });
    lab.script("create m1 serve; wait m1 started");
    let (id, worker) = (lab.id("m1"), lab.worker());
    lab.run(async { worker.acquire_lease(user(), id, wanted("a", MINUTE)).await }).unwrap();
    (lab, id)
}

fn stop(lab: &Lab, context: CallContext, id: MachineId) -> Result<(), HostError> {
    let worker = lab.worker();
    lab.run(async { worker.stop(context, id, Stop::default()).await })
}

fn is_leased(answer: &Result<(), HostError>) -> bool {
    matches!(answer, Err(HostError::Leased { owner, .. }) if owner == "a")
}

#[test]
fn a_lease_survives_a_daemon_that_is_killed_and_ends_at_its_time() {
    let (mut lab, id) = leased();
    lab.script("kill; daemon");
    assert!(is_leased(&stop(&lab, user(), id)));
    lab.script("power-cut; daemon; wait m1 started");
    assert!(is_leased(&stop(&lab, with("b"), id)));
    lab.script("tick 59s");
    assert!(is_leased(&stop(&lab, user(), id)), "it has not expired");
    lab.script("tick 2s; stop m1; wait m1 stopped");
    let worker = lab.worker();
    assert_eq!(lab.run(async { worker.lease(user(), id).await }), Ok(None));
    assert_eq!(lab.take(), "");
}

#[test]
fn a_lease_that_is_released_stays_released() {
    let (mut lab, id) = leased();
    let worker = lab.worker();
    lab.run(async { worker.release_lease(with("a"), id).await }).unwrap();
    drop(worker);
    lab.script("kill; daemon; stop m1; wait m1 stopped");
    assert_eq!(lab.take(), "");
}

#[test]
fn of_many_that_ask_at_once_one_gets_the_lease() {
    let mut lab = Lab::new(Settings::default());
    lab.script("create m1 serve; wait m1 started");
    let (id, worker) = (lab.id("m1"), lab.worker());
    let ask = |n: u32| {
        let worker = worker.clone();
        async move { worker.acquire_lease(user(), id, wanted(&format!("n{n}"), MINUTE)).await }
    };
    let answers = lab.run(futures_util::future::join_all((0..20).map(ask)));
    let granted: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(granted.len(), 1, "{answers:?}");
    let held = lab.run(async { worker.lease(user(), id).await }).unwrap();
    assert_eq!(held.as_ref(), Some(granted[0]));
}

#[test]
fn traffic_wakes_and_stops_a_leased_machine_and_its_policy_restarts_it() {
    let (mut lab, id) = leased();
    let worker = lab.worker();
    lab.run(async { worker.stop_idle(edge(), id, "no load".into()).await }).unwrap();
    drop(worker);
    lab.script("drained m1; wait m1 stopped; wake m1; wait m1 started");
    lab.script("guest m1 exit 1; exits m1 1; tick 10s; wait m1 started");
    assert!(is_leased(&stop(&lab, user(), id)), "the lease is still held");
    assert_eq!(lab.take(), "");
}

#[test]
fn a_destroyed_machine_can_be_leased_also_by_the_next_daemon() {
    let mut lab = Lab::new(Settings::default());
    lab.script("create m1 serve; wait m1 started; destroy m1 --force; wait m1 destroyed");
    let id = lab.id("m1");
    for nonce in ["a", "b"] {
        let worker = lab.worker();
        lab.run(async {
            let lease = worker.acquire_lease(user(), id, wanted(nonce, MINUTE)).await.unwrap();
            assert_eq!(lease.nonce.as_deref(), Some(nonce));
            let refused = worker.acquire_lease(user(), id, wanted("c", MINUTE)).await;
            assert!(matches!(refused, Err(HostError::Leased { .. })), "{refused:?}");
            worker.release_lease(with(nonce), id).await.unwrap();
            let late = worker.start(user(), id).await;
            assert!(late.is_err(), "it stays destroyed");
        });
        drop(worker);
        lab.script("kill; daemon");
    }
}

#[test]
fn an_expired_lease_may_be_renewed_until_another_is_granted() {
    let (mut lab, id) = leased();
    lab.script("tick 2m; kill; daemon");
    let worker = lab.worker();
    let renewed = lab.run(async { worker.acquire_lease(with("a"), id, wanted("x", MINUTE)).await });
    assert_eq!(renewed.unwrap().nonce.as_deref(), Some("a"));
    drop(worker);
    lab.script("tick 2m");
    let worker = lab.worker();
    let other = lab.run(async { worker.acquire_lease(user(), id, wanted("b", MINUTE)).await });
    assert_eq!(other.unwrap().nonce.as_deref(), Some("b"));
    let late = lab.run(async { worker.acquire_lease(with("a"), id, wanted("y", MINUTE)).await });
    assert!(matches!(late, Err(HostError::Leased { .. })), "{late:?}");
}
