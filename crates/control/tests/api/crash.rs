//! What a crash between two steps leaves behind, and how it is cleared away.

use crate::world::{at, id, world};
use model::life::Event;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn the_claim_of_a_machine_that_never_came_to_be_is_released() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "a" })).await;
    // As if the daemon had died between the claim and the host's answer.
    w.host.lose(id(&machine));
    w.reconcile().await;
    assert_eq!(w.get("/v1/apps/web").await.1["machine_count"], 1, "it may be on its way");
    let young =
        w.post("/v1/apps/web/machines", json!({ "name": "a", "config": { "image": "nginx" } }));
    assert_eq!(young.await.0, 422);
    w.clock.advance(Duration::from_secs(121));
    w.reconcile().await;
    assert_eq!(w.get("/v1/apps/web").await.1["machine_count"], 0);
    assert_eq!(w.get(&at(&machine, "")).await.0, 404);
    w.machine(json!({ "name": "a" })).await;
}

#[tokio::test]
async fn the_name_of_a_machine_that_destroyed_itself_is_free() {
    let w = world().await;
    w.app().await;
    let events = [Event::Destroy { force: true }, Event::Gone];
    let machine = w.machine(json!({ "name": "a" })).await;
    w.host.happen(id(&machine), &events).unwrap();
    // Also before a reconciler has seen it.
    let second = w.machine(json!({ "name": "a" })).await;
    w.host.happen(id(&second), &events).unwrap();
    w.reconcile().await;
    assert_eq!(w.get("/v1/apps/web").await.1["machine_count"], 0);
    assert_eq!(w.get(&at(&second, "")).await.1["state"], "destroyed", "it is remembered");
}

#[tokio::test]
async fn a_late_release_does_not_take_the_name_from_its_new_owner() {
    let w = world().await;
    w.app().await;
    let first = w.machine(json!({ "name": "a" })).await;
    w.delete(&at(&first, "?force=true")).await;
    let second = w.machine(json!({ "name": "a" })).await;
    w.reconcile().await;
    assert_eq!(w.get("/v1/apps/web/machines/a").await.1["id"], second["id"]);
}

#[tokio::test]
async fn a_deletion_that_was_cut_off_is_finished() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "a" })).await;
    // A create that never came to be holds the deletion up until it is old.
    let lost = w.machine(json!({ "name": "b" })).await;
    w.host.lose(id(&lost));
    assert_eq!(w.delete("/v1/apps/web?force=true").await.0, 202);
    assert_eq!(w.get("/v1/apps/web").await.0, 404);
    let again = w.post("/v1/apps", json!({ "name": "web" })).await;
    assert_eq!(again.1["status"], "name_taken", "still going");
    let into = w.post("/v1/apps/web/machines", json!({ "config": { "image": "nginx" } })).await;
    assert_eq!(into.0, 404, "no new machines");
    w.clock.advance(Duration::from_secs(121));
    w.reconcile().await;
    assert_eq!(w.post("/v1/apps", json!({ "name": "web" })).await.0, 201);
    assert_eq!(w.get("/v1/apps/web/machines").await.1, Value::Array(vec![]));
    assert_eq!(w.get("/v1/apps/web/machines?include_deleted=true").await.1, json!([]));
    assert_eq!(w.get(&at(&machine, "")).await.0, 404);
}
