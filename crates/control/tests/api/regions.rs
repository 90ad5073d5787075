//! Regions: codes that machines are asked for, capacity, and where machines would be placed.

use crate::world::{at, error, world, world_of};
use serde_json::{Value, json};

#[tokio::test]
async fn a_machine_has_the_code_that_it_was_asked_for() {
    let w = world().await;
    w.host.set_region_codes(&["iad", "ams"]);
    w.app().await;
    for (name, asked, region) in [
        ("a", json!(null), "local"),
        ("b", json!("iad"), "iad"),
        ("c", json!("eu"), "ams"),
        ("d", json!("fra,any"), "local"),
    ] {
        let machine = w.machine(json!({ "name": name, "region": asked })).await;
        assert_eq!(machine["region"], region, "{asked}");
        assert_eq!(w.get(&at(&machine, "")).await.1["region"], region);
    }
    let (_, listed) = w.get("/v1/apps/web/machines?region=iad").await;
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|m| &m["name"]).collect();
    assert_eq!(names, ["b"]);
    let launch = json!({ "region": "fra", "config": { "image": "nginx" } });
    let refused = w.post("/v1/apps/web/machines", launch).await;
    assert_eq!(error(&refused).0, 422);
    assert!(error(&refused).1.contains("in region local, iad, ams, not in \"fra\""), "{refused:?}");
    let launch = json!({ "region": "not a code", "config": { "image": "nginx" } });
    assert_eq!(error(&w.post("/v1/apps/web/machines", launch).await).0, 400);
    // A host that does not answer has its machines listed with their regions.
    w.reconcile().await;
    w.host.set_reach(testkit::Reach::Away);
    let (_, listed) = w.get("/v1/apps/web/machines").await;
    let regions: Vec<_> = listed.as_array().unwrap().iter().map(|m| &m["region"]).collect();
    assert!(regions.contains(&&json!("ams")) && regions.contains(&&json!("")), "{regions:?}");
}

#[tokio::test]
async fn regions_have_their_cities_and_their_capacity() {
    let w = world().await;
    w.host.set_region_codes(&["ams"]);
    let (_, list) = w.get("/v1/platform/regions").await;
    let ams = &list["Regions"][0];
    assert_eq!((&ams["code"], &ams["name"]), (&json!("ams"), &json!("Amsterdam, Netherlands")));
    assert_eq!((&ams["geo_region"], &ams["latitude"]), (&json!("Europe"), &json!(52.3)));
    // 4 GiB, two of performance-1x.
    assert_eq!((&ams["capacity"], &list["Nearest"]), (&json!(2), &json!("local")));
    assert_eq!(list["Regions"][1]["name"], "local");
    for (query, capacity) in [("size=shared-cpu-1x", 16), ("memory_mb=1024", 4)] {
        let (_, list) = w.get(&format!("/v1/platform/regions?{query}")).await;
        assert_eq!(list["Regions"][0]["capacity"], capacity, "{query}");
    }
    for (query, code, field) in [
        ("size=huge", 400, "size: must be one of"),
        ("cpus=3", 400, "cpus: "),
        ("gpus=1", 422, "gpus: "),
    ] {
        let refused = w.get(&format!("/v1/platform/regions?{query}")).await;
        assert_eq!(error(&refused).0, code, "{refused:?}");
        assert!(error(&refused).1.starts_with(field), "{refused:?}");
    }
}

#[tokio::test]
async fn placements_are_planned_and_reserve_nothing() {
    let w = world_of(2).await;
    let plan = async |ask: Value| {
        let (code, answer) = w.post("/v1/platform/placements", ask).await;
        assert_eq!(code, 200, "{answer}");
        answer["regions"].clone()
    };
    let both = json!([{ "region": "local", "count": 4, "concurrency": 2 }]);
    assert_eq!(plan(json!({ "org_slug": "personal" })).await, both);
    assert_eq!(plan(json!({ "count": 9 })).await, both, "there is no room for more");
    let small = json!({ "cpu_kind": "shared", "cpus": 1, "memory_mb": 256 });
    let one = json!([{ "region": "local", "count": 1, "concurrency": 1 }]);
    assert_eq!(plan(json!({ "compute": small, "count": 1, "region": "local" })).await, one);
    for (ask, code, why) in [
        (json!({ "region": "fra" }), 422, "not in \"fra\""),
        (json!({ "count": 10_001 }), 400, "count: must be at most 10000"),
        (json!({ "compute": { "cpus": 3 } }), 400, "compute.cpus: "),
        (json!({ "org_slug": "absent" }), 404, "Could not find Organization"),
        (json!({ "region": "a b" }), 400, "region: "),
        (json!({ "weights": { "spread": -1 } }), 400, "weights.spread: "),
    ] {
        let refused = w.post("/v1/platform/placements", ask).await;
        assert_eq!(error(&refused).0, code, "{refused:?}");
        assert!(error(&refused).1.contains(why), "{refused:?}");
    }
}
