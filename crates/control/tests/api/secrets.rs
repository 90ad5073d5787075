//! Secrets of apps.

use crate::world::{TestWorld, at, error, id, world, world_of};
use host_api::{HostError, ScopedSecret};
use model::id::AppId;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::Reach;
use wire::secret::Secret;
use wire::secrets::SecretScope;

const PATH: &str = "/v1/apps/web/secrets";
/// The number of the first app.
const WEB: AppId = AppId(1);

/// Sets secrets of the app `web`; the version.
async fn set(w: &TestWorld, values: Value) -> u64 {
    let (code, json) = w.post(PATH, json!({ "values": values })).await;
    assert_eq!(code, 200, "{json}");
    json["version"].as_u64().unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    list["secrets"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn secrets_are_set_listed_and_removed() {
    let w = world().await;
    w.app().await;
    assert_eq!(w.get(PATH).await, (200, json!({ "secrets": [], "version": 0 })));
    let first = set(&w, json!({ "B": "two", "A": "one" })).await;
    assert_eq!(first, w.clock.now_ms(), "it is not smaller than the time");
    let (_, list) = w.get(PATH).await;
    assert_eq!(names(&list), ["A", "B"]);
    let a = &list["secrets"][0];
    assert_eq!(a["digest"].as_str().unwrap().len(), 16);
    assert_ne!(a["digest"], list["secrets"][1]["digest"]);
    assert_eq!(a["created_at"], "2023-11-14T22:13:20.000Z");
    assert!(a.get("value").is_none() && !list.to_string().contains("one"), "{list}");
    // The same value again is no change.
    w.clock.advance(Duration::from_secs(5));
    assert_eq!(set(&w, json!({ "A": "one" })).await, first);
    let second = set(&w, json!({ "A": "new", "B": null, "NEVER_SET": null })).await;
    assert_eq!(second, first + 5000);
    let (_, list) = w.get(&format!("{PATH}?show_secrets=true&min_version={second}")).await;
    let changed = &list["secrets"][0];
    assert_eq!((&list["version"], names(&list)), (&json!(second), vec!["A"]));
    assert_eq!((&changed["value"], &changed["created_at"]), (&json!("new"), &a["created_at"]));
    assert_eq!(changed["updated_at"], "2023-11-14T22:13:25.000Z");
    assert_ne!(changed["digest"], a["digest"]);
    // A clock that was set back does not make versions smaller.
    assert_eq!(set(&w, json!({ "A": "x" })).await, second + 1);
    let early = w.get(&format!("{PATH}?version={}", second + 2)).await;
    let why = format!(
        "min_version: the app's secrets are at version {}, not at {} yet",
        second + 1,
        second + 2
    );
    assert_eq!(error(&early), (400, why.as_str()));
}

#[tokio::test]
async fn one_secret_at_a_time() {
    let w = world().await;
    w.app().await;
    let one = format!("{PATH}/TOKEN");
    assert_eq!(error(&w.get(&one).await), (404, "app \"web\" has no secret \"TOKEN\""));
    assert_eq!(w.delete(&one).await.0, 404);
    let (code, made) = w.post(&one, json!({ "value": "hunter2" })).await;
    assert_eq!((code, &made["name"]), (201, &json!("TOKEN")));
    assert!(made["version"].is_u64() && made.get("value").is_none(), "{made}");
    let (_, shown) = w.get(&format!("{one}?show_secrets=1")).await;
    assert_eq!((&shown["value"], &shown["digest"]), (&json!("hunter2"), &made["digest"]));
    let (code, gone) = w.delete(&one).await;
    assert_eq!((code, gone.as_object().unwrap().len()), (200, 1), "{gone}");
    assert!(gone["version"].as_u64() > made["version"].as_u64());
    assert_eq!(w.get(&one).await.0, 404);
    assert_eq!(w.get("/v1/apps/other/secrets").await.0, 404);
}

#[tokio::test]
async fn what_is_no_secret_is_refused_without_being_quoted() {
    let w = world().await;
    w.app().await;
    for (body, expected) in [
        (json!({}), "values: must have 1 to 500 names, not 0"),
        (json!({ "values": {} }), "values: must have 1 to 500 names, not 0"),
        (json!({ "values": "hunter2" }), "values: must be an object of texts by name"),
        (json!({ "values": { "A": 4711 } }), "values.A: must be a text"),
        (json!({ "values": { "A": "a\u{0}b" } }), "values.A: a value must not contain a NUL byte"),
        (
            json!({ "values": { "A": "ok", "1A": "x" } }),
            "values.1A: must be a name for an environment",
        ),
        (json!({ "values": { "": "x" } }), "must be a name for an environment variable"),
        (json!({ "values": { "FLY_APP_NAME": "x" } }), "the platform sets FLY_APP_NAME in every"),
        (
            json!({ "values": { "A": "x" }, "scope": { "group": "a b" } }),
            "scope.group: must be 1 to 63",
        ),
        (json!({ "values": { "A": "x" }, "scope": { "unknown": 1 } }), "scope"),
    ] {
        let answer = w.post(PATH, body.clone()).await;
        let (code, why) = error(&answer);
        assert_eq!(code, 400, "{body}: {why}");
        assert!(why.contains(expected), "{body}: {why}");
        assert!(!why.contains("hunter2") && !why.contains("4711"), "{why}");
    }
    let twice = w.request(Method::POST, PATH).body(r#"{"values":{"A":"1","A":"2"}}"#);
    assert_eq!(twice.send().await.unwrap().status(), 400);
    let not_text = w.request(Method::POST, PATH).body(b"{\"values\":{\"A\":\"\xff\"}}".to_vec());
    assert_eq!(not_text.send().await.unwrap().status(), 400);
    let missing = w.post(&format!("{PATH}/A"), json!({})).await;
    assert_eq!(error(&missing), (400, "value: is required"));
    assert_eq!(w.get(PATH).await.1["secrets"], json!([]), "all of a request or nothing");
    // One request is bounded by the body's limit; all of an app together by their own.
    let value = "x".repeat(60_000);
    for name in ["A", "B"] {
        set(&w, json!({ name: value })).await;
    }
    let (code, json) = w.post(PATH, json!({ "values": { "C": value } })).await;
    let why = "values: the secrets of an app have at most 131072 bytes in all, not 180003";
    assert_eq!((code, json["error"].as_str().unwrap()), (400, why));
}

#[tokio::test]
async fn a_machine_is_started_with_the_newest_secrets() {
    let w = world().await;
    w.app().await;
    let plain = w.machine(json!({ "name": "plain" })).await;
    assert_eq!(w.host.secrets(WEB), None, "an app without secrets has none on its hosts");
    let version = set(&w, json!({ "A": "one" })).await;
    let on_host = w.host.secrets(WEB).unwrap();
    let secret = ScopedSecret { name: "A".into(), scope: None, value: Secret::new("one") };
    assert_eq!((on_host.version, on_host.secrets), (version, vec![secret]));
    let of = async |machine: &Value| w.get(&at(machine, "")).await.1["secrets_version"].clone();
    assert_eq!(of(&plain).await, Value::Null, "a running machine keeps what it has");
    assert_eq!(w.post(&at(&plain, "/restart"), Value::Null).await.0, 200);
    assert_eq!(of(&plain).await, json!(version));
    let skipping = w.machine(json!({ "name": "skips", "skip_secrets": true })).await;
    assert_eq!(of(&skipping).await, Value::Null);
    assert_eq!(w.get(&at(&skipping, "")).await.1["skip_secrets"], true);
    let config = json!({ "config": { "image": "nginx" }, "min_secrets_version": version });
    let (code, machine) = w.post(&at(&skipping, ""), config).await;
    assert_eq!((code, machine.get("skip_secrets")), (200, None), "{machine}");
    assert_eq!(of(&skipping).await, json!(version));
    let next = set(&w, json!({ "A": null })).await;
    assert_eq!(w.host.secrets(WEB).unwrap().secrets, []);
    assert_eq!(w.post(&at(&plain, "/stop"), Value::Null).await.0, 200);
    assert_eq!(w.post(&at(&plain, "/start"), Value::Null).await.0, 200);
    assert_eq!(of(&plain).await, json!(next));
}

#[tokio::test]
async fn a_resumed_machine_keeps_its_secrets() {
    let w = world().await;
    w.app().await;
    let version = set(&w, json!({ "A": "one" })).await;
    let machine = w.machine(json!({})).await;
    set(&w, json!({ "A": "two" })).await;
    w.post(&at(&machine, "/suspend"), Value::Null).await;
    assert_eq!(w.post(&at(&machine, "/start"), Value::Null).await.1["resumed"], true);
    assert_eq!(w.get(&at(&machine, "")).await.1["secrets_version"], json!(version));
}

#[tokio::test]
async fn a_version_that_is_not_there_yet_is_refused() {
    let w = world().await;
    w.app().await;
    let create = async |version: u64| {
        let config = json!({ "image": "nginx" });
        w.post("/v1/apps/web/machines", json!({ "config": config, "min_secrets_version": version }))
            .await
    };
    // A version of a store that was lost: it is older than now, whatever it was.
    assert_eq!(create(w.clock.now_ms()).await.0, 200);
    assert_eq!(create(0).await.0, 200);
    let version = set(&w, json!({ "A": "one" })).await;
    assert_eq!(create(version).await.0, 200);
    let refused = create(version + 1).await;
    let why = format!(
        "min_secrets_version: the app's secrets are at version {version}, not at {} yet",
        version + 1
    );
    assert_eq!(error(&refused), (400, why.as_str()));
    let machine = w.machine(json!({})).await;
    let body = json!({ "config": { "image": "nginx" }, "min_secrets_version": version + 1 });
    assert_eq!(error(&w.post(&at(&machine, ""), body).await), (400, why.as_str()));
}

#[tokio::test]
async fn secrets_that_a_config_names_must_be_there() {
    let w = world().await;
    w.app().await;
    set(&w, json!({ "CERT": "aGk=", "TEXT": "no base64!" })).await;
    let create = async |more: Value, request: Value| {
        let mut config = json!({ "image": "nginx" });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut body = json!({ "config": config });
        body.as_object_mut().unwrap().extend(request.as_object().unwrap().clone());
        w.post("/v1/apps/web/machines", body).await
    };
    let file = |name: &str| json!({ "files": [{ "guest_path": "/f", "secret_name": name }] });
    let process = |secret: Value| json!({ "processes": [{ "secrets": [secret] }] });
    for (config, request, expected) in [
        (file("CERT"), json!({}), ""),
        (process(json!({ "env_var": "X", "name": "TEXT" })), json!({}), ""),
        (process(json!({ "env_var": "TEXT" })), json!({}), ""),
        (
            file("NONE"),
            json!({}),
            "config.files[0].secret_name: the app has no secret NONE for this machine",
        ),
        (
            file("TEXT"),
            json!({}),
            "config.files[0].secret_name: the value of the secret TEXT must be base64",
        ),
        (
            file("a b"),
            json!({}),
            "config.files[0].secret_name: must be a name for an environment variable",
        ),
        (
            file("CERT"),
            json!({ "skip_secrets": true }),
            "config.files[0].secret_name: needs a secret, and the request has skip_secrets",
        ),
        (
            process(json!({ "env_var": "X", "name": "NONE" })),
            json!({}),
            "config.processes[0].secrets[0].name: the app has no secret NONE for this machine",
        ),
        (
            process(json!({ "env_var": "", "name": "CERT" })),
            json!({}),
            "config.processes[0].secrets[0].env_var: must be a name",
        ),
    ] {
        let answer = create(config.clone(), request).await;
        let (code, why) = error(&answer);
        assert_eq!(code, if expected.is_empty() { 200 } else { 400 }, "{config}: {why}");
        assert!(why.starts_with(expected), "{config}: {why}");
        assert!(!why.contains("no base64!"), "{why}");
    }
}

#[tokio::test]
async fn a_secret_may_be_for_a_group_or_a_machine() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "front" })).await;
    let own = machine["id"].as_str().unwrap();
    let for_group = json!({ "values": { "A": "group" }, "scope": { "group": "worker" } });
    assert_eq!(w.post(PATH, for_group).await.0, 200);
    let for_machine = json!({ "value": "machine", "scope": { "machine": "front" } });
    let (_, made) = w.post(&format!("{PATH}/A"), for_machine).await;
    assert_eq!(made["scope"], json!({ "machine": own }), "a name becomes an id");
    set(&w, json!({ "A": "app" })).await;
    let scopes: Vec<_> =
        w.host.secrets(WEB).unwrap().secrets.into_iter().map(|s| s.scope).collect();
    let group = SecretScope::Group("worker".into());
    assert_eq!(scopes, [None, Some(group), Some(SecretScope::Machine(own.into()))]);
    let shown = async |query: &str| {
        w.get(&format!("{PATH}/A?show_secrets=1{query}")).await.1["value"].clone()
    };
    assert_eq!(shown("").await, "app");
    assert_eq!(shown("&group=worker").await, "group");
    assert_eq!(shown("&machine=front").await, "machine");
    assert_eq!(w.get(&format!("{PATH}/A?machine=front&group=worker")).await.0, 400);
    let other = json!({ "values": { "A": "x" }, "scope": { "machine": "nowhere" } });
    assert_eq!(w.post(PATH, other).await.0, 404);
    // That of a machine that is gone can still be removed.
    w.delete(&at(&machine, "?force=true")).await;
    assert_eq!(w.delete(&format!("{PATH}/A?machine={own}")).await.0, 200);
    assert_eq!(w.delete(&format!("{PATH}/A?group=worker")).await.0, 200);
    assert_eq!(names(&w.get(PATH).await.1), ["A"]);
    assert_eq!(shown("").await, "app");
}

#[tokio::test]
async fn a_host_that_was_away_is_sent_the_secrets_later() {
    let w = world_of(2).await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    let owner =
        if w.host.alive().contains(&id(&machine)) { &w.host } else { w.other.as_ref().unwrap() };
    owner.set_reach(Reach::Away);
    let version = set(&w, json!({ "A": "one" })).await;
    assert_eq!(owner.secrets(WEB), None);
    owner.set_reach(Reach::Reachable);
    w.reconcile().await;
    assert_eq!(owner.secrets(WEB).unwrap().version, version);
    let idle = if owner.id() == w.host.id() { w.other.as_ref().unwrap() } else { &w.host };
    assert_eq!(idle.secrets(WEB), None, "a host without a machine of the app has none");
    // A host that cannot take them does not start the machine with older ones.
    owner.fail_next("put_secrets", HostError::Unsupported("an older host".into()));
    assert_eq!(
        error(&w.post(&at(&machine, "/restart"), Value::Null).await),
        (422, "an older host")
    );
}

#[tokio::test]
async fn secrets_go_with_their_app() {
    let w = world().await;
    w.app().await;
    set(&w, json!({ "A": "hunter2" })).await;
    let stored = async || {
        let range = store::KeyRange::prefix("/secrets/");
        store::Store::range(&*w.store, range, None, None).await.unwrap().entries
    };
    let entries = stored().await;
    assert_eq!(entries.len(), 1);
    let text = String::from_utf8_lossy(&entries[0].value).into_owned();
    assert!(text.contains("\"A\"") && !text.contains("hunter2"), "{text}");
    w.delete("/v1/apps/web").await;
    assert_eq!(stored().await.len(), 0);
    w.app().await;
    assert_eq!(w.get(PATH).await.1["secrets"], json!([]), "an app of the same name has none");
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_made() {
    let w = world().await;
    w.app().await;
    let changes = (0..12).map(|n| set(&w, json!({ format!("N{n:02}"): "x" })));
    let versions = futures_util::future::join_all(changes).await;
    assert_eq!(names(&w.get(PATH).await.1).len(), 12);
    let distinct: std::collections::BTreeSet<u64> = versions.into_iter().collect();
    assert_eq!(distinct.len(), 12, "each has a version of its own");
}
