//! What a crash between two steps leaves behind, and how it is cleared away.

use crate::world::{at, error, id, world};
use host_api::HostError;
use model::life::Event;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn the_claim_of_a_machine_that_never_came_to_be_is_released() {
    let w = world().await;
    w.app().await;
    let ask = || json!({ "name": "a", "config": { "image": "nginx" } });
    // As if the call had been lost on its way, or the daemon had died before it.
    let lost = HostError::Unavailable { message: "it broke".into(), may_have_run: true };
    for in_doubt in [HostError::DeadlineExceeded("slow".into()), lost] {
        w.host.fail_next("create", in_doubt);
        assert!(w.post("/v1/apps/web/machines", ask()).await.0 >= 400);
        w.reconcile().await;
        assert_eq!(w.get("/v1/apps/web").await.1["machine_count"], 1, "it may be on its way");
        assert_eq!(w.post("/v1/apps/web/machines", ask()).await.0, 422);
        w.clock.advance(Duration::from_secs(121));
        w.reconcile().await;
        assert_eq!(w.get("/v1/apps/web").await.1["machine_count"], 0);
        assert_eq!(w.get("/v1/apps/web/machines/a").await.0, 404);
    }
    w.machine(json!({ "name": "a" })).await;
}

#[tokio::test]
async fn a_machine_that_its_host_has_lost_keeps_its_record_until_it_is_destroyed() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "a" })).await;
    // Its create is confirmed.
    w.reconcile().await;
    w.host.lose(id(&machine));
    w.clock.advance(Duration::from_secs(1000));
    w.reconcile().await;
    assert_eq!(w.get("/v1/apps/web").await.1["machine_count"], 1);
    let listed = w.get("/v1/apps/web/machines").await.1;
    assert_eq!((&listed[0]["id"], &listed[0]["host_status"]), (&machine["id"], &json!("lost")));
    let ask = json!({ "name": "a", "config": { "image": "nginx" } });
    assert_eq!(w.post("/v1/apps/web/machines", ask).await.0, 422, "its name is its own");
    assert_eq!(w.delete(&at(&machine, "?force=true")).await.0, 200);
    assert_eq!(w.get("/v1/apps/web").await.1["machine_count"], 0);
    w.machine(json!({ "name": "a" })).await;
}

#[tokio::test]
async fn a_destroyed_machine_that_its_host_has_forgotten_is_forgotten() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "a" })).await;
    w.reconcile().await;
    assert_eq!(w.delete(&at(&machine, "?force=true")).await.0, 200);
    w.host.lose(id(&machine));
    w.reconcile().await;
    let answer = w.get(&at(&machine, "")).await;
    assert!(error(&answer).1.contains("app \"web\" has no machine"), "{answer:?}");
}

#[tokio::test]
async fn a_machine_that_the_store_has_no_record_of_is_never_destroyed() {
    let w = world().await;
    // The machine of a platform whose store is lost; its app has the number of `web`.
    let of_another_store = testkit::create_machine(&w.host, 1).await;
    for _ in 0..3 {
        w.clock.advance(Duration::from_secs(1000));
        w.reconcile().await;
    }
    assert_eq!(w.host.alive(), [of_another_store]);
    w.app().await;
    let own = w.machine(json!({ "name": "a" })).await;
    w.clock.advance(Duration::from_secs(1000));
    w.reconcile().await;
    assert_eq!(w.host.alive().len(), 2);
    assert_eq!(w.delete("/v1/apps/web?force=true").await.0, 202);
    w.reconcile().await;
    assert_eq!(w.host.alive(), [of_another_store], "{own} is destroyed");
}

#[tokio::test]
async fn a_released_machine_is_destroyed_and_then_forgotten() {
    let w = world().await;
    w.app().await;
    let kept = w.machine(json!({ "name": "kept" })).await;
    let hold = w.host.pause_next("create");
    let ask = json!({ "name": "a", "config": { "image": "nginx" } });
    let creating = w.post("/v1/apps/web/machines", ask);
    let meanwhile = async {
        hold.reached().await;
        w.clock.advance(Duration::from_secs(121));
        // Its claim is released.
        w.reconcile().await;
        w.host.fail_next("destroy", HostError::unreachable("it is away"));
        hold.release();
    };
    let (refused, ()) = tokio::join!(creating, meanwhile);
    assert_eq!(refused.0, 503, "{refused:?}");
    assert_eq!(w.host.alive().len(), 2);
    let notes = || w.count_released();
    w.reconcile().await;
    assert_eq!(w.host.alive(), [id(&kept)]);
    assert_eq!(notes().await, 1, "another create of it may be on its way");
    w.clock.advance(Duration::from_secs(121));
    w.host.set_reach(testkit::Reach::Away);
    w.reconcile().await;
    assert_eq!(notes().await, 1, "the host may have it");
    w.host.set_reach(testkit::Reach::Reachable);
    w.reconcile().await;
    assert_eq!(notes().await, 0);
}

#[tokio::test]
async fn an_app_is_deleted_although_a_machine_of_it_has_no_record() {
    let w = world().await;
    w.app().await;
    let hold = w.host.pause_next("create");
    let ask = json!({ "name": "a", "config": { "image": "nginx" } });
    let creating = w.post("/v1/apps/web/machines", ask);
    let meanwhile = async {
        hold.reached().await;
        w.clock.advance(Duration::from_secs(121));
        w.reconcile().await;
        w.host.fail_next("destroy", HostError::unreachable("it is away"));
        hold.release();
    };
    let (refused, ()) = tokio::join!(creating, meanwhile);
    assert_eq!(refused.0, 503, "{refused:?}");
    assert_eq!(w.host.states(), ["started"], "it has no owner");
    assert_eq!(w.delete("/v1/apps/web?force=true").await.0, 202);
    assert_eq!(w.host.states(), ["destroyed"]);
    assert_eq!(w.post("/v1/apps", json!({ "name": "web" })).await.0, 201);
}

#[tokio::test]
async fn the_name_of_a_machine_that_destroyed_itself_is_free() {
    let w = world().await;
    w.app().await;
    let events = [Event::Destroy { force: true }, Event::Gone];
    let machine = w.machine(json!({ "name": "a" })).await;
    w.host.apply_events(id(&machine), &events).unwrap();
    // Also before a reconciler has seen it.
    let second = w.machine(json!({ "name": "a" })).await;
    w.host.apply_events(id(&second), &events).unwrap();
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

#[tokio::test]
async fn records_that_cannot_be_read_do_not_hold_up_the_others() {
    let w = world().await;
    w.app().await;
    let unreadable = ["/apps/newer", "/machines/0123456789abcd", "/names/1/newer"];
    let then =
        unreadable.map(|key| store::Op::put(key, r#"{"of":"a newer version"}"#.into())).to_vec();
    store::Store::txn(&*w.store, store::Txn { then, ..store::Txn::default() }).await.unwrap();
    let machine = w.machine(json!({ "name": "a" })).await;
    let events = [Event::Destroy { force: true }, Event::Gone];
    w.host.apply_events(id(&machine), &events).unwrap();
    let count = async || w.get("/v1/apps/web").await.1["machine_count"].clone();
    let before = count().await.as_u64().unwrap();
    w.reconcile().await;
    assert_eq!(count().await, before - 1, "its name is free");
    let apps = w.get("/v1/apps?org_slug=personal").await;
    assert_eq!((apps.0, &apps.1["total_apps"]), (200, &json!(1)));
}

#[tokio::test]
async fn the_deletion_of_an_app_keeps_the_name_of_a_machine_that_its_host_does_not_destroy() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "a" })).await;
    w.host.fail_next("destroy", HostError::Conflict("it cannot be done now".into()));
    assert_eq!(w.delete("/v1/apps/web?force=true").await.0, 202);
    assert_eq!(w.host.alive(), [id(&machine)]);
    let names = store::KeyRange::prefix(store::records::NAMES);
    let names = store::Store::range(&*w.store, names, None, None).await.unwrap();
    assert_eq!(names.entries.len(), 1);
    w.reconcile().await;
    assert_eq!(w.host.states(), ["destroyed"]);
    assert_eq!(w.post("/v1/apps", json!({ "name": "web" })).await.0, 201);
}
