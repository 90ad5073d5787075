//! Apps: the shapes, the names, the idempotency, the deletion.

use crate::world::{at, error, world};
use host_api::HostError;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn an_app_from_its_creation_to_its_end() {
    let w = world().await;
    let (code, made) = w.post("/v1/apps?wait=true", json!({ "name": "web", "org_slug": "" })).await;
    assert_eq!((code, &made["id"]), (201, &json!("web")));
    assert_eq!(made["created_at"], 1_700_000_000_000u64);
    let (code, app) = w.get("/v1/apps/web").await;
    assert_eq!(code, 200);
    let expected = json!({
        "id": "web", "name": "web", "status": "pending", "network": "default",
        "network_cidr": "fdaa:0:1::/48",
        "organization": { "name": "Personal", "slug": "personal", "internal_numeric_id": 1 },
        "internal_numeric_id": 1, "machine_count": 0, "volume_count": 0, "app_role": "",
        "cname_target": "web.localhost", "hostname": "web.localhost:8080",
    });
    assert_eq!(app, expected);
    let machine = w.machine(json!({})).await;
    let (_, app) = w.get("/v1/apps/web").await;
    assert_eq!((&app["status"], &app["machine_count"]), (&json!("deployed"), &json!(1)));
    let (_, list) = w.get("/v1/apps?org_slug=personal").await;
    assert_eq!((&list["total_apps"], &list["apps"][0]["machine_count"]), (&json!(1), &json!(1)));

    // Also while machines run, and without force: clients send none.
    let (code, done) = w.delete("/v1/apps/web").await;
    assert_eq!((code, done), (202, json!({ "ok": true })));
    assert_eq!(error(&w.get("/v1/apps/web").await), (404, "Could not find App \"web\""));
    assert_eq!(w.get(&at(&machine, "")).await.0, 404);
    // The name is free again.
    assert_eq!(w.post("/v1/apps", json!({ "app_name": "web" })).await.0, 201);
    assert_eq!(w.get("/v1/apps/web").await.1["internal_numeric_id"], 2);
}

#[tokio::test]
async fn a_stopped_app_is_deleted_without_force() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    w.post(&at(&machine, "/stop"), Value::Null).await;
    assert_eq!(w.delete("/v1/apps/web").await.0, 202);
    assert_eq!(w.get("/v1/apps").await.1, json!({ "total_apps": 0, "apps": [] }));
}

#[tokio::test]
async fn names_that_are_taken_or_not_valid() {
    let w = world().await;
    w.app().await;
    let taken = w.post("/v1/apps", json!({ "app_name": "web" })).await;
    assert_eq!(error(&taken), (422, "Validation failed: Name has already been taken"));
    assert_eq!(taken.1["status"], "name_taken");
    let taken_network = w.post("/v1/apps", json!({ "app_name": "x", "network": "7net" })).await;
    assert_eq!(error(&taken_network), (400, "network: must begin with a letter"));
    for name in ["", "Web", "a b", "-a", "../x"] {
        let (code, json) = w.post("/v1/apps", json!({ "app_name": name })).await;
        assert_eq!(code, 400, "{name}: {json}");
    }
    let nowhere = w.post("/v1/apps", json!({ "app_name": "x", "org_slug": "unknown" })).await;
    assert_eq!(error(&nowhere), (404, "Could not find Organization \"unknown\""));
}

#[tokio::test]
async fn a_repeated_create_with_the_same_key_is_one_app() {
    let w = world().await;
    let ask = |name: &str| json!({ "app_name": name, "idempotency_key": "k1" });
    let (code, first) = w.post("/v1/apps", ask("web")).await;
    let (again, second) = w.post("/v1/apps", ask("web")).await;
    assert_eq!((code, again), (201, 201));
    assert_eq!(first, second);
    let other = w.post("/v1/apps", ask("other")).await;
    let why = "idempotency_key: was used to create the app \"web\"";
    assert_eq!(error(&other), (422, why));
    // An app that is going is no answer: every other call denies it.
    w.machine(json!({})).await;
    w.host.fail_next("destroy", HostError::Internal("stuck".into()));
    assert_eq!(w.delete("/v1/apps/web?force=true").await.0, 202);
    let going = w.post("/v1/apps", ask("web")).await;
    let why = "Validation failed: Name has already been taken: app web is still being deleted";
    assert_eq!(error(&going), (422, why));
    w.reconcile().await;
    // Once the app is gone, so is its key.
    assert_eq!(w.post("/v1/apps", ask("other")).await.0, 201);
}

#[tokio::test]
async fn apps_created_at_once_get_numbers_of_their_own() {
    let w = world().await;
    let create = |n: usize| {
        let ask = json!({ "app_name": format!("app-{n}"), "network": format!("net-{}", n % 2) });
        w.call(Method::POST, "/v1/apps", ask)
    };
    let made = futures_util::future::join_all((0..8).map(create)).await;
    assert!(made.iter().all(|(code, _)| *code == 201), "{made:?}");
    let mut numbers: Vec<_> =
        made.iter().map(|(_, app)| app["internal_numeric_id"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn an_app_whose_create_was_refused_is_not_deployed() {
    let w = world().await;
    w.app().await;
    w.host.fail_next("create", HostError::NoCapacity("memory is full".into()));
    let ask = json!({ "config": { "image": "nginx" } });
    assert_eq!(w.post("/v1/apps/web/machines", ask).await.0, 422);
    assert_eq!(w.get("/v1/apps/web").await.1["status"], "pending");
    w.machine(json!({})).await;
    assert_eq!(w.get("/v1/apps/web").await.1["status"], "deployed");
}

#[tokio::test]
async fn apps_are_asked_for_by_role() {
    let w = world().await;
    w.app().await;
    let role = json!({ "app_name": "db", "app_role_id": "postgres_cluster" });
    assert_eq!(w.post("/v1/apps", role).await.1["app_role"], "postgres_cluster");
    let names = async |query: &str| {
        let (_, list) = w.get(&format!("/v1/apps{query}")).await;
        let apps = list["apps"].as_array().unwrap().iter();
        apps.map(|app| app["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names("").await, "db web");
    assert_eq!(names("?app_role=postgres_cluster").await, "db");
    assert_eq!(names("?app_role=remote-docker-builder").await, "");
    let builder = json!({ "app_name": "b", "app_role_id": "remote-docker-builder" });
    let refused = w.post("/v1/apps", builder).await;
    let why = "app_role_id: remote builders are not supported yet; deploy an image that exists \
               with `--image`";
    assert_eq!(error(&refused), (422, why));
}
