//! Readiness checks and routing.

use crate::fake::*;
use host_api::{HealthStatus, ServiceHealth};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Sets the health of a machine's port.
fn set_health(world: &World, machine: &str, status: HealthStatus) {
    world.host.change(machine, |route| {
        let port = route.services[0].internal_port.unwrap();
        route.health = vec![ServiceHealth { port, status }];
    });
}

/// How many of `n` requests each app has answered.
async fn share(world: &World, apps: [&App; 2], n: usize) -> [usize; 2] {
    let before = apps.map(|app| app.requests.load(SeqCst));
    for _ in 0..n {
        assert_eq!(world.get("/").await.status, 200);
    }
    let mut share = apps.map(|app| app.requests.load(SeqCst));
    share.iter_mut().zip(before).for_each(|(now, before)| *now -= before);
    share
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_machine_gets_nothing_while_another_is_healthy() {
    let world = World::new(config()).await;
    let (one, two) = (world.running("m1"), world.running("m2"));
    set_health(&world, "m1", HealthStatus::Failing);
    set_health(&world, "m2", HealthStatus::Passing);
    world.host.until_acknowledged().await;
    assert_eq!(share(&world, [&one, &two], 10).await, [0, 10]);
    // One without a verdict waits behind one that passes.
    set_health(&world, "m1", HealthStatus::Unproven);
    world.host.until_acknowledged().await;
    assert_eq!(share(&world, [&one, &two], 10).await, [0, 10]);
    set_health(&world, "m2", HealthStatus::Failing);
    world.host.until_acknowledged().await;
    assert_eq!(share(&world, [&one, &two], 10).await, [10, 0]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_a_machine_to_pass_and_not_endlessly() {
    let world = World::new(config()).await;
    let _app = world.running("m1");
    set_health(&world, "m1", HealthStatus::Failing);
    world.host.until_acknowledged().await;
    let (answer, ()) = tokio::join!(world.get("/"), async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        set_health(&world, "m1", HealthStatus::Passing);
    });
    assert_eq!(answer.status, 200, "{}", answer.text);
    world.host.logged("Still waiting: all machines fail their health checks").await;
    set_health(&world, "m1", HealthStatus::Failing);
    world.host.until_acknowledged().await;
    let begun = tokio::time::Instant::now();
    let answer = world.get("/").await;
    assert_eq!(answer.code(), (503, "PR01"));
    assert!(answer.text.contains("no machine passed its health checks for 30s"), "{}", answer.text);
    assert_eq!(begun.elapsed().as_secs(), 30);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_sleeping_machine_is_woken_where_all_that_run_are_unhealthy() {
    let world = World::new(config()).await;
    let (sick, asleep) = (world.running("m1"), world.machine("m2", |_| {}));
    set_health(&world, "m1", HealthStatus::Failing);
    world.host.until_acknowledged().await;
    assert_eq!(share(&world, [&sick, &asleep], 1).await, [0, 1]);
    assert!(world.host.calls().iter().any(|call| call.starts_with("wake")));
    world.end().await;
}
