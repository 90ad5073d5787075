//! Several creates at once, and merge patches of a config.

use crate::world::{TestWorld, at, error, world};
use host_api::HostError;
use reqwest::Method;
use serde_json::{Value, json};

const BATCH: &str = "/v1/apps/web/machines/batch";

#[tokio::test]
async fn a_batch_shows_the_result_of_each_create() {
    let w = world().await;
    w.app().await;
    w.machine(json!({ "name": "taken" })).await;
    let create = |name: &str, image: &str| json!({ "name": name, "config": { "image": image } });
    let ask = json!({ "machines": [
        create("a", "nginx"), create("taken", "nginx"), create("b", "unknown"),
        { "config": 5 }, create("c", "nginx"),
    ] });
    let (code, answer) = w.post(BATCH, ask).await;
    assert_eq!(code, 207, "{answer}");
    let results = answer["results"].as_array().unwrap();
    let statuses: Vec<_> = results.iter().map(|r| r["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 422, 400, 400, 200]);
    assert_eq!(results[0]["machine"]["name"], "a");
    assert_eq!(results[1]["error"]["status"], "name_taken");
    assert!(results[2]["error"]["error"].as_str().unwrap().starts_with("config.image: "));
    assert!(results[3]["error"]["error"].as_str().unwrap().starts_with("config: invalid type"));
    assert_eq!(results[4]["machine"]["name"], "c");
    assert_eq!(w.host.alive().len(), 3);
    // All of them, as a plain list.
    let (code, answer) = w.post(BATCH, json!([create("d", "nginx"), create("e", "nginx")])).await;
    assert_eq!((code, answer["results"].as_array().unwrap().len()), (200, 2), "{answer}");
}

#[tokio::test]
async fn batches_that_are_refused_as_a_whole() {
    let w = world().await;
    w.app().await;
    let many = vec![json!({ "config": { "image": "nginx" } }); 101];
    for (ask, why) in [
        (json!({ "machines": many }), "machines: must have from 1 to 100 entries"),
        (json!({ "machines": [] }), "machines: must have from 1 to 100 entries"),
        (json!({}), "machines: must be a list of bodies of a create"),
        (json!({ "machines": {} }), "machines: must be a list of bodies of a create"),
    ] {
        assert_eq!(error(&w.post(BATCH, ask).await), (400, why));
    }
    let of_none = w.post("/v1/apps/nowhere/machines/batch", json!([{ "config": {} }])).await;
    assert_eq!(of_none.0, 404);
    assert_eq!(w.host.alive().len(), 0);
}

#[tokio::test]
async fn a_batch_with_a_key_finds_the_machines_that_it_has_created() {
    let w = world().await;
    w.app().await;
    let one = json!({ "config": { "image": "nginx" } });
    let ask = json!({ "machines": [one, one, one] });
    let send = async || {
        let request = w.request(Method::POST, BATCH).header("idempotency-key", "k").json(&ask);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let first = send().await;
    assert_eq!((first.0, w.host.alive().len()), (200, 3), "{first:?}");
    assert_eq!(send().await, first);
    assert_eq!(w.host.alive().len(), 3);
}

async fn patch(w: &TestWorld, machine: &Value, kind: &str, body: &Value) -> (u16, Value) {
    let request = w.request(Method::PATCH, &at(machine, "")).header("content-type", kind);
    let answer = request.body(body.to_string()).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

const MERGE: &str = "application/merge-patch+json";

#[tokio::test]
async fn a_patch_changes_what_it_names_and_nothing_else() {
    let w = world().await;
    w.app().await;
    let config = json!({ "image": "nginx", "env": { "A": "1", "B": "2" }, "new_thing": [1],
        "metadata": { "role": "web" }, "services": [{ "protocol": "tcp", "internal_port": 80 }] });
    let machine = w.machine(json!({ "config": config })).await;
    let change = json!({ "config": { "env": { "A": null, "C": "3" }, "new_thing": null,
        "guest": { "memory_mb": 512 } }, "current_version": machine["version"] });
    let (code, patched) = patch(&w, &machine, MERGE, &change).await;
    assert_eq!(code, 200, "{patched}");
    let config = &patched["config"];
    assert_eq!(config["env"], json!({ "B": "2", "C": "3" }));
    assert_eq!(config["guest"], json!({ "cpu_kind": "shared", "cpus": 1, "memory_mb": 512 }));
    assert!(config.get("new_thing").is_none());
    for kept in ["image", "metadata", "services", "init"] {
        assert_eq!(config[kept], machine["config"][kept], "{kept}");
    }
    assert_ne!(patched["version"], machine["version"]);
    let (_, versions) = w.get(&at(&machine, "/versions")).await;
    assert_eq!(versions.as_array().unwrap().len(), 2);
    // The version that was named is not the current one any more.
    assert_eq!(patch(&w, &machine, MERGE, &change).await.0, 412);
    let sized = json!({ "config": { "size": "shared-cpu-2x" } });
    let (code, sized) = patch(&w, &machine, MERGE, &sized).await;
    assert_eq!((code, &sized["config"]["guest"]["cpus"]), (200, &json!(2)), "{sized}");
}

#[tokio::test]
async fn a_patch_without_a_version_is_merged_into_what_another_has_written() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    let changed = HostError::VersionMismatch("the machine has been changed".into());
    w.host.fail_next("update", changed);
    let change = json!({ "config": { "env": { "A": "1" } } });
    let (code, patched) = patch(&w, &machine, MERGE, &change).await;
    assert_eq!((code, &patched["config"]["env"]["A"]), (200, &json!("1")), "{patched}");
}

#[tokio::test]
async fn a_patch_keeps_labels_that_are_set_while_it_is_carried_out() {
    let w = world().await;
    w.app().await;
    let config = json!({ "image": "nginx", "metadata": { "old": "1" } });
    let machine = w.machine(json!({ "config": config })).await;
    for (change, expected) in [
        (json!({ "env": { "A": "1" } }), json!({ "old": "1", "late": "1" })),
        (json!({ "metadata": { "old": null, "new": "1" } }), json!({ "new": "1", "late": "1" })),
        (json!({ "metadata": null }), json!(null)),
    ] {
        let hold = w.host.pause_next("update");
        let late = async {
            hold.reached().await;
            let set = w.post(&at(&machine, "/metadata/late"), json!({ "value": "1" })).await;
            assert!(set.0 < 300, "{set:?}");
            hold.release();
        };
        let body = json!({ "config": change });
        let ((code, patched), ()) = tokio::join!(patch(&w, &machine, MERGE, &body), late);
        assert_eq!((code, &patched["config"]["metadata"]), (200, &expected), "{change}");
    }
}

#[tokio::test]
async fn patches_are_validated_as_updates() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    for (body, code, why) in [
        (json!({}), 400, "config: is required: a merge patch of the config"),
        (json!({ "config": null }), 400, "config: is required: a merge patch of the config"),
        (json!({ "config": { "image": null } }), 400, "config.image: is required"),
        (
            json!({ "config": { "env": { "A": 1 } } }),
            400,
            "config.env.A: invalid type: integer `1`, expected a string",
        ),
        (json!({ "config": { "guest": { "cpus": 3 } } }), 400, "config.guest.cpus: "),
        (json!({ "config": {}, "current_version": "x" }), 400, "current_version: "),
    ] {
        let refused = patch(&w, &machine, MERGE, &body).await;
        let (status, text) = error(&refused);
        assert!(status == code && text.starts_with(why), "{body}: {refused:?}");
    }
    let other = patch(&w, &machine, "application/json-patch+json", &json!([])).await;
    assert_eq!(other.0, 415, "{other:?}");
    let put = w.request(Method::PUT, &at(&machine, "")).send().await.unwrap();
    assert_eq!(put.status().as_u16(), 405);
    let allowed = put.headers()["allow"].to_str().unwrap();
    assert!(["GET", "POST", "PATCH", "DELETE"].iter().all(|m| allowed.contains(m)), "{allowed}");
    let (_, versions) = w.get(&at(&machine, "/versions")).await;
    assert_eq!(versions.as_array().unwrap().len(), 1, "nothing was done");
}
