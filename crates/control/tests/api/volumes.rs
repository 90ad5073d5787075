//! Volumes of apps, and the machines that have them.

use crate::world::{TestWorld, at, error, id, world, world_of};
use host_api::HostError;
use model::id::VolumeId;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::Reach;

const PATH: &str = "/v1/apps/web/volumes";

async fn create(w: &TestWorld, more: Value) -> Value {
    let mut body = json!({ "name": "data", "size_gb": 1 });
    let (Value::Object(to), Value::Object(from)) = (&mut body, more) else { unreachable!() };
    to.extend(from);
    let (code, json) = w.post(PATH, body).await;
    assert_eq!(code, 200, "{json}");
    json
}

fn volume_path(volume: &Value, rest: &str) -> String {
    format!("{PATH}/{}{rest}", volume["id"].as_str().unwrap())
}

fn volume_id(volume: &Value) -> VolumeId {
    volume["id"].as_str().unwrap().parse().unwrap()
}

/// The warnings of an answer.
async fn warnings(w: &TestWorld, method: Method, path: &str, body: Value) -> Vec<String> {
    let answer = w.request(method, path).json(&body).send().await.unwrap();
    let all = answer.headers().get_all("updraft-warning").iter();
    all.map(|value| value.to_str().unwrap().to_owned()).collect()
}

async fn ids(w: &TestWorld) -> Vec<String> {
    let (_, list) = w.get(PATH).await;
    list.as_array().unwrap().iter().map(|v| v["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_volume_is_created_shown_changed_and_destroyed() {
    let w = world().await;
    w.app().await;
    assert_eq!(w.get(PATH).await, (200, json!([])));
    let made = create(&w, json!({ "snapshot_retention": 9 })).await;
    assert!(made["id"].as_str().unwrap().starts_with("vol_"), "{made}");
    for (field, value) in [
        ("name", json!("data")),
        ("state", json!("created")),
        ("size_gb", json!(1)),
        ("region", json!("local")),
        ("zone", json!("0000")),
        ("encrypted", json!(false)),
        ("attached_machine_id", Value::Null),
        ("attached_alloc_id", Value::Null),
        ("block_size", json!(4096)),
        ("bytes_total", json!(1 << 30)),
        ("fstype", json!("ext4")),
        ("snapshot_retention", json!(9)),
        ("auto_backup_enabled", json!(true)),
        ("host_status", json!("ok")),
        ("type", json!("local")),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    assert_eq!(w.get(PATH).await, (200, json!([made])));
    assert_eq!(w.get(&volume_path(&made, "")).await, (200, made.clone()));
    assert_eq!(w.get("/v1/apps/web").await.1["volume_count"], 1);
    let settings = json!({ "snapshot_retention": 3, "auto_backup_enabled": null });
    let (code, changed) = w.call(Method::PUT, &volume_path(&made, ""), settings).await;
    assert_eq!((code, &changed["snapshot_retention"]), (200, &json!(3)), "{changed}");
    let (code, larger) =
        w.call(Method::PUT, &volume_path(&made, "/extend"), json!({ "size_gb": 2 })).await;
    assert_eq!((code, &larger["needs_restart"]), (200, &json!(false)), "{larger}");
    assert_eq!(larger["volume"]["size_gb"], 2);
    let extend = volume_path(&made, "/extend");
    let same = warnings(&w, Method::PUT, &extend, json!({ "size_gb": 2 })).await;
    assert_eq!(same, ["size_gb: the volume has 2 GB already; nothing was changed"]);
    let (code, gone) = w.delete(&volume_path(&made, "")).await;
    assert_eq!((code, &gone["state"]), (200, &json!("pending_destroy")), "{gone}");
    assert_eq!(w.get(PATH).await, (200, json!([])));
    assert_eq!(w.get(&volume_path(&made, "")).await.0, 404);
    assert_eq!(w.host.volume_ids(), []);
    assert_eq!(w.get("/v1/apps/web").await.1["volume_count"], 0);
}

#[tokio::test]
async fn what_a_volume_cannot_be_is_refused_by_its_field() {
    let w = world().await;
    w.app().await;
    for (body, code, why) in [
        (json!({}), 400, "name: must have 1 to 30 characters"),
        (json!({ "name": "a-b" }), 400, "name: must have 1 to 30 characters"),
        (json!({ "name": "a", "size_gb": 501 }), 400, "size_gb: must be from 1 to 500, not 501"),
        (json!({ "name": "a", "size_gb": -1 }), 400, "size_gb: invalid value"),
        (json!({ "name": "a", "snapshot_retention": 61 }), 400, "snapshot_retention: must be"),
        (json!({ "name": "a", "fstype": "xfs" }), 400, "fstype: must be ext4 or raw"),
        (json!({ "name": "a", "region": "A;B" }), 400, "region: "),
        (json!({ "name": "a", "region": "ams" }), 422, "could not reserve resource"),
        (json!({ "name": "a", "snapshot_id": "vs_1" }), 422, "snapshot_id: snapshots of volumes"),
        (json!({ "name": "a", "source_volume_id": "vol_1" }), 422, "source_volume_id: forks of"),
    ] {
        let (got, answer) = w.post(PATH, body.clone()).await;
        assert_eq!(got, code, "{body} {answer}");
        assert!(answer["error"].as_str().unwrap().starts_with(why), "{body} {answer}");
    }
    assert_eq!(w.post("/v1/apps/other/volumes", json!({ "name": "a" })).await.0, 404);
    // Zero and null count as absent.
    let body = json!({ "name": "a", "size_gb": 0, "fstype": null, "snapshot_retention": 0 });
    let (code, made) = w.post(PATH, body).await;
    assert_eq!((code, &made["size_gb"], &made["fstype"]), (200, &json!(3), &json!("ext4")));
    let extend = async |size: u32| {
        let path = volume_path(&made, "/extend");
        w.call(Method::PUT, &path, json!({ "size_gb": size })).await
    };
    assert_eq!(extend(501).await.0, 400);
    assert!(error(&extend(2).await).1.contains("cannot be made smaller"));
    for path in ["/v1/apps/web/volumes/vol_0000000000000000", "/v1/apps/web/volumes/x"] {
        let answer = w.get(path).await;
        assert!(error(&answer).1.starts_with("volume not found: app \"web\" has no volume"));
        assert_eq!((answer.0, w.delete(path).await.0), (404, 404));
    }
    w.host.set_volume_room(3);
    let full = w.post(PATH, json!({ "name": "b", "size_gb": 1 })).await;
    assert_eq!(error(&full), (422, "the host has no room for the volume"));
    assert_eq!(ids(&w).await.len(), 1, "nothing is left of it");
}

#[tokio::test]
async fn what_is_not_done_yet_is_warned_of() {
    let w = world().await;
    w.app().await;
    let plain = json!({ "name": "a", "encrypted": false, "auto_backup_enabled": false });
    assert_eq!(warnings(&w, Method::POST, PATH, plain).await, [""; 0]);
    let usual = warnings(&w, Method::POST, PATH, json!({ "name": "b", "encrypted": true })).await;
    assert!(usual[0].starts_with("encrypted: disks of volumes are not encrypted yet"), "{usual:?}");
    assert!(usual[1].contains("no snapshots are taken yet"), "{usual:?}");
    // A second one of a name has no other host to be on: it is made all the same.
    let shared = warnings(&w, Method::POST, PATH, json!({ "name": "b" })).await;
    assert!(shared[2].starts_with("require_unique_zone: no other host"), "{shared:?}");
    let relaxed = json!({ "name": "b", "require_unique_zone": false });
    assert_eq!(warnings(&w, Method::POST, PATH, relaxed).await.len(), 2);
    assert_eq!(ids(&w).await.len(), 4);
}

#[tokio::test]
async fn volumes_of_one_name_are_spread_over_hosts() {
    let w = world_of(2).await;
    w.app().await;
    let zone = async |more: Value| create(&w, more).await["zone"].clone();
    let first = zone(json!({})).await;
    let second = zone(json!({})).await;
    assert_ne!(first, second);
    let any = json!({ "name": "logs", "unique_zone_app_wide": true });
    let shared = warnings(&w, Method::POST, PATH, any).await;
    assert!(shared.iter().any(|text| text.contains("volumes of the app already")), "{shared:?}");
    // A host without room is passed over.
    w.host.set_volume_room(0);
    assert_eq!(zone(json!({})).await, "0001");
}

#[tokio::test]
async fn a_machine_is_placed_on_the_host_of_its_volume() {
    let w = world_of(2).await;
    w.app().await;
    let (one, two) = (create(&w, json!({})).await, create(&w, json!({})).await);
    for volume in [&one, &two] {
        let mounts = json!([{ "volume": volume["id"], "path": "/data" }]);
        let machine = w.machine(json!({ "config": { "image": "nginx", "mounts": mounts } })).await;
        let host = if volume["zone"] == "0000" { &w.host } else { w.other.as_ref().unwrap() };
        assert_eq!(host.alive(), [id(&machine)]);
        let mount = &machine["config"]["mounts"][0];
        assert_eq!((&mount["name"], &mount["size_gb"]), (&json!("data"), &json!(1)), "{mount}");
        let (_, shown) = w.get(&volume_path(volume, "")).await;
        assert_eq!(shown["attached_machine_id"], machine["id"]);
    }
    // Both on one machine cannot be.
    let other = create(&w, json!({ "name": "logs" })).await;
    let three = create(&w, json!({ "name": "logs" })).await;
    let mounts =
        json!([{ "volume": other["id"], "path": "/a" }, { "volume": three["id"], "path": "/b" }]);
    let body = json!({ "config": { "image": "nginx", "mounts": mounts } });
    let (code, refused) = w.post("/v1/apps/web/machines", body).await;
    assert_eq!((code, &refused["field"]), (409, &json!("config.mounts[1].volume")), "{refused}");
}

#[tokio::test]
async fn a_volume_is_picked_by_its_name_and_has_one_machine() {
    let w = world().await;
    w.app().await;
    let volumes = [create(&w, json!({})).await, create(&w, json!({})).await];
    let body =
        json!({ "config": { "image": "nginx", "mounts": [{ "name": "data", "path": "/data" }] } });
    let machines = [w.machine(body.clone()).await, w.machine(body.clone()).await];
    let mut picked = machines.each_ref().map(|m| m["config"]["mounts"][0]["volume"].clone());
    picked.sort_by_key(Value::to_string);
    let mut all = volumes.each_ref().map(|v| v["id"].clone());
    all.sort_by_key(Value::to_string);
    assert_eq!(picked, all);
    let (code, refused) = w.post("/v1/apps/web/machines", body.clone()).await;
    assert_eq!(code, 409);
    assert!(refused["error"].as_str().unwrap().contains("there is no free volume \"data\""));
    assert_eq!(w.host.alive().len(), 2, "nothing is left of it");
    let taken = json!([{ "volume": volumes[0]["id"], "path": "/x" }]);
    let taken = json!({ "config": { "image": "nginx", "mounts": taken } });
    let (code, refused) = w.post("/v1/apps/web/machines", taken).await;
    assert_eq!((code, &refused["field"]), (409, &json!("config.mounts[0].volume")), "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("is attached to machine"), "{refused}");
    // One that is attached is not destroyed; it is free again once its machine is gone.
    let (code, refused) = w.delete(&volume_path(&volumes[0], "")).await;
    assert_eq!(code, 409, "{refused}");
    assert_eq!(w.get(&volume_path(&volumes[0], "")).await.1["state"], "created");
    assert_eq!(w.delete(&at(&machines[0], "?force=true")).await.0, 200);
    assert_eq!(ids(&w).await.len(), 2, "a volume outlives its machine");
    w.machine(body).await;
}

#[tokio::test]
async fn creates_at_once_get_different_volumes() {
    let w = world().await;
    w.app().await;
    for _ in 0..4 {
        create(&w, json!({})).await;
    }
    let body =
        json!({ "config": { "image": "nginx", "mounts": [{ "name": "data", "path": "/data" }] } });
    let made = futures_util::future::join_all((0..4).map(|_| w.machine(body.clone()))).await;
    let picked: std::collections::BTreeSet<String> =
        made.iter().map(|m| m["config"]["mounts"][0]["volume"].to_string()).collect();
    assert_eq!(picked.len(), 4);
}

#[tokio::test]
async fn an_update_keeps_adds_and_removes_volumes() {
    let w = world().await;
    w.app().await;
    let (data, logs) = (create(&w, json!({})).await, create(&w, json!({ "name": "logs" })).await);
    let config = |mounts: Value| json!({ "config": { "image": "nginx", "mounts": mounts } });
    let mount = |name: &str| json!({ "name": name, "path": format!("/{name}") });
    let machine = w.machine(config(json!([mount("data")]))).await;
    let attached = async |volume: &Value| {
        w.get(&volume_path(volume, "")).await.1["attached_machine_id"] == machine["id"]
    };
    let (code, both) =
        w.post(&at(&machine, ""), config(json!([mount("logs"), mount("data")]))).await;
    assert_eq!(code, 200, "{both}");
    let mounts = both["config"]["mounts"].as_array().unwrap();
    assert_eq!((&mounts[0]["volume"], &mounts[1]["volume"]), (&logs["id"], &data["id"]));
    assert!(attached(&data).await && attached(&logs).await);
    let (code, one) = w.post(&at(&machine, ""), config(json!([mount("logs")]))).await;
    assert_eq!(code, 200, "{one}");
    assert!(!attached(&data).await && attached(&logs).await);
    let (code, refused) = w.post(&at(&machine, ""), config(json!([mount("none")]))).await;
    assert_eq!(code, 409, "{refused}");
}

#[tokio::test]
async fn mounts_of_a_config_are_checked() {
    let w = world().await;
    w.app().await;
    let volume = create(&w, json!({})).await["id"].clone();
    let many: Vec<Value> =
        (0..9).map(|n| json!({ "name": "data", "path": format!("/v{n}") })).collect();
    for (mounts, code, why) in [
        (json!([{ "volume": volume, "path": "/" }]), 400, "config.mounts[0].path: must be an abs"),
        (json!([{ "volume": volume, "path": "/a/../b" }]), 400, "config.mounts[0].path: must be"),
        (json!([{ "volume": volume, "path": "a" }]), 400, "config.mounts[0].path: must be"),
        (json!([{ "volume": volume, "path": "/proc/x" }]), 400, "config.mounts[0].path: must not"),
        (json!([{ "path": "/a" }]), 400, "config.mounts[0].volume: is required"),
        (
            json!([{ "name": "data", "path": "/a" }, { "name": "data", "path": "/a/" }]),
            400,
            "config.mounts[1].path: another volume has this path",
        ),
        (
            json!([{ "volume": volume, "path": "/a" }, { "volume": volume, "path": "/b" }]),
            400,
            "config.mounts[1].volume: the machine has this volume already",
        ),
        (json!(many), 400, "config.mounts: a machine can have 8 volumes"),
        (
            json!([{ "volume": volume, "path": "/a", "extend_threshold_percent": 80 }]),
            422,
            "config.mounts[0].extend_threshold_percent: volumes that grow by themselves",
        ),
        (json!([{ "volume": "vol_x", "path": "/a" }]), 400, "config.mounts[0].volume: volume id"),
        (
            json!([{ "volume": "vol_0000000000000000", "path": "/a" }]),
            400,
            "config.mounts[0].volume: the app has no volume",
        ),
    ] {
        let body = json!({ "config": { "image": "nginx", "mounts": mounts } });
        let (got, answer) = w.post("/v1/apps/web/machines", body).await;
        assert_eq!(got, code, "{mounts} {answer}");
        assert!(answer["error"].as_str().unwrap().starts_with(why), "{mounts} {answer}");
    }
    let containers = json!([{ "name": "a", "image": "nginx" }]);
    let mounts = json!([{ "volume": volume, "path": "/a" }]);
    let body = json!({ "config": { "containers": containers, "mounts": mounts } });
    let (code, refused) = w.post("/v1/apps/web/machines", body).await;
    assert_eq!(code, 422, "{refused}");
}

#[tokio::test]
async fn the_volumes_of_a_host_that_is_away_are_shown_from_their_records() {
    let w = world_of(2).await;
    w.app().await;
    let volumes = [create(&w, json!({})).await, create(&w, json!({})).await];
    let away = volumes.iter().find(|volume| volume["zone"] == "0000").unwrap();
    w.host.set_reach(Reach::Away);
    let (code, list) = w.get(PATH).await;
    assert_eq!((code, list.as_array().unwrap().len()), (200, 2));
    let (code, shown) = w.get(&volume_path(away, "")).await;
    assert_eq!((code, &shown["host_status"]), (200, &json!("unreachable")), "{shown}");
    let (code, page) = w.get("/v1/orgs/personal/volumes").await;
    assert_eq!((code, page["volumes"].as_array().unwrap().len()), (200, 2), "{page}");
    assert_eq!(page["error_regions"].as_array().unwrap().len(), 1, "{page}");
    // It is not destroyed later, as the client has been sent a failure.
    assert_eq!(w.delete(&volume_path(away, "")).await.0, 503);
    w.host.set_reach(Reach::Reachable);
    w.reconcile().await;
    let (_, shown) = w.get(&volume_path(away, "")).await;
    assert_eq!((&shown["host_status"], &shown["state"]), (&json!("ok"), &json!("created")));
    w.host.lose_volume(volume_id(away));
    assert_eq!(w.get(&volume_path(away, "")).await.1["host_status"], "lost");
}

#[tokio::test]
async fn the_volumes_of_an_organization_come_in_pages() {
    let w = world().await;
    w.app().await;
    for _ in 0..3 {
        create(&w, json!({})).await;
    }
    let (code, first) = w.get("/v1/orgs/personal/volumes?limit=2").await;
    assert_eq!((code, first["volumes"].as_array().unwrap().len()), (200, 2), "{first}");
    assert_eq!(first["volumes"][0]["app_name"], "web");
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(first["last_volume_id"], cursor);
    let (_, second) = w.get(&format!("/v1/orgs/personal/volumes?limit=2&cursor={cursor}")).await;
    assert_eq!(second["volumes"].as_array().unwrap().len(), 1);
    assert_eq!(second["next_cursor"], "");
    assert_eq!(w.get("/v1/orgs/personal/volumes?region=ams").await.1["volumes"], json!([]));
    for query in ["limit=0", "cursor=x"] {
        assert_eq!(w.get(&format!("/v1/orgs/personal/volumes?{query}")).await.0, 400, "{query}");
    }
    assert_eq!(w.get("/v1/orgs/none/volumes").await.0, 404);
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_is_finished_or_released() {
    let w = world().await;
    w.app().await;
    w.host.lose_answer("create_volume", HostError::Internal("broken".into()));
    assert_eq!(w.post(PATH, json!({ "name": "made" })).await.0, 500);
    w.host.fail_next("create_volume", HostError::Internal("never made".into()));
    assert_eq!(w.post(PATH, json!({ "name": "absent" })).await.0, 500);
    w.clock.advance(Duration::from_secs(150));
    w.reconcile().await;
    let (_, list) = w.get(PATH).await;
    assert_eq!((list.as_array().unwrap().len(), &list[0]["name"]), (1, &json!("made")), "{list}");
    assert_eq!(w.get("/v1/apps/web").await.1["volume_count"], 1, "the other claim is released");
    // The same for a volume that is destroyed.
    w.host.lose_answer("destroy_volume", HostError::Internal("broken".into()));
    assert_eq!(w.delete(&volume_path(&list[0], "")).await.0, 500);
    w.reconcile().await;
    assert_eq!(w.get("/v1/apps/web").await.1["volume_count"], 0);
}

#[tokio::test]
async fn a_create_is_repeated_with_its_key() {
    let w = world().await;
    w.app().await;
    let send = async || {
        let request = w.request(Method::POST, PATH).header("idempotency-key", "k1");
        let answer = request.json(&json!({ "name": "data" })).send().await.unwrap();
        answer.json::<Value>().await.unwrap()
    };
    w.host.lose_answer("create_volume", HostError::Internal("broken".into()));
    assert!(send().await["error"].is_string());
    let made = send().await;
    assert_eq!(made["state"], "created", "{made}");
    assert_eq!(send().await["id"], made["id"]);
    assert_eq!(w.host.volume_ids(), [volume_id(&made)]);
}

#[tokio::test]
async fn an_app_is_deleted_with_its_volumes() {
    let w = world().await;
    w.app().await;
    create(&w, json!({})).await;
    w.machine(
        json!({ "config": { "image": "nginx", "mounts": [{ "name": "data", "path": "/d" }] } }),
    )
    .await;
    assert_eq!(w.delete("/v1/apps/web?force=true").await.0, 202);
    assert_eq!(w.host.volume_ids(), []);
    w.app().await;
    assert_eq!(ids(&w).await, [""; 0]);
}

#[tokio::test]
async fn the_app_of_a_volume_is_found_by_its_id() {
    let w = world().await;
    w.app().await;
    let made = create(&w, json!({})).await;
    let query =
        "query($id: ID!) { volume: volume(id: $id) { ... on Volume { id state app { name } } } }";
    let ask = async |id: &Value| {
        w.post("/graphql", json!({ "query": query, "variables": { "id": id } })).await.1
    };
    let found = ask(&made["id"]).await;
    let want = json!({ "id": made["id"], "state": "created", "app": { "name": "web" } });
    assert_eq!(found["data"]["volume"], want, "{found}");
    let none = ask(&json!("vol_0000000000000000")).await;
    assert!(none["errors"][0]["message"].as_str().unwrap().starts_with("Could not find Volume"));
}
