//! Machines: create, read, change, life, labels, waits.

use crate::world::{at, error, id, world};
use host_api::{HostError, Stop};
use model::life::Event;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_created_machine_has_the_shape_that_clients_need() {
    let w = world().await;
    w.app().await;
    let config = json!({
        "image": "nginx:1", "size": "shared-cpu-2x", "env": { "A": "b" },
        "services": [{ "protocol": "tcp", "internal_port": 80, "autostop": "stop",
                       "force_instance_key": null, "ports": [{ "port": 80, "handlers": ["http"] }] }],
        "new_thing": { "x": [1] },
    });
    let body = json!({ "config": config, "name": "front", "region": "any", "skip_secrets": true });
    let (code, machine) = w.post("/v1/apps/web/machines", body).await;
    assert_eq!(code, 200, "{machine}");
    assert_eq!(machine["name"], "front");
    assert_eq!(machine["id"].as_str().unwrap().len(), 14);
    assert_eq!((&machine["state"], &machine["host_status"]), (&json!("created"), &json!("ok")));
    let returned = json!({
        "image": "nginx:1", "env": { "A": "b" }, "init": {},
        "guest": { "cpu_kind": "shared", "cpus": 2, "memory_mb": 512 },
        "services": [{ "protocol": "tcp", "internal_port": 80, "autostop": true,
                       "force_instance_key": null, "ports": [{ "port": 80, "handlers": ["http"] }] }],
        "new_thing": { "x": [1] },
    });
    assert_eq!(machine["config"], returned);
    let (_, got) = w.get("/v1/apps/web/machines/front").await;
    assert_eq!((&got["id"], &got["state"]), (&machine["id"], &json!("started")));
    assert_eq!(w.get(&at(&machine, "")).await.1, got);
}

#[tokio::test]
async fn absent_names_are_generated() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "" })).await;
    let name = machine["name"].as_str().unwrap();
    let parts: Vec<&str> = name.split('-').collect();
    assert!(parts.len() == 3 && parts[2].len() == 4, "{name}");
}

#[tokio::test]
async fn two_creates_of_one_name_at_once_are_one_machine() {
    let w = world().await;
    w.app().await;
    let ask = || json!({ "name": "only", "config": { "image": "nginx" } });
    let create = || w.call(Method::POST, "/v1/apps/web/machines", ask());
    let made = futures_util::future::join_all((0..6).map(|_| create())).await;
    let (good, bad): (Vec<_>, Vec<_>) = made.into_iter().partition(|(code, _)| *code == 200);
    assert_eq!((good.len(), bad.len()), (1, 5));
    for refused in bad {
        let why = "Validation failed: Name has already been taken: app \"web\" has a machine only";
        assert_eq!(error(&refused), (422, why));
        assert_eq!(refused.1["status"], "name_taken");
    }
    assert_eq!(w.get("/v1/apps/web/machines").await.1.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_the_host_refuses_leaves_no_claim() {
    let w = world().await;
    w.app().await;
    let ask = || json!({ "name": "a", "config": { "image": "nginx" } });
    w.host.fail_next("create", HostError::NoCapacity("disk is full".into()));
    let refused = w.post("/v1/apps/web/machines", ask()).await;
    let why = "could not reserve resource for machine: disk is full";
    assert_eq!(error(&refused), (422, why));
    assert_eq!(refused.1["status"], "insufficient_capacity");
    w.host.fail_next("create", HostError::Internal("lost the answer".into()));
    assert_eq!(w.post("/v1/apps/web/machines", ask()).await.0, 500);
    // The call may still arrive: the name is free once that is out of the question.
    assert_eq!(w.post("/v1/apps/web/machines", ask()).await.0, 422);
    w.clock.advance(std::time::Duration::from_secs(121));
    w.reconcile().await;
    assert_eq!(w.post("/v1/apps/web/machines", ask()).await.0, 200, "the name is free");
}

#[tokio::test]
async fn a_machine_that_does_not_fit_is_refused_with_the_reason() {
    let w = world().await;
    w.app().await;
    let large = json!({ "config": { "image": "nginx", "size": "performance-4x" } });
    let (code, body) = w.post("/v1/apps/web/machines", large).await;
    let why = "could not reserve resource for machine: \
               host 0 in region local has 4096 of 4096 MB memory free, 8192 MB are needed";
    assert_eq!((code, body["error"].as_str().unwrap()), (422, why));
    let far = json!({ "config": { "image": "nginx" }, "region": "ams,fra" });
    let (code, body) = w.post("/v1/apps/web/machines", far).await;
    let why =
        "could not reserve resource for machine: host 0 is in region local, not in \"ams,fra\"";
    assert_eq!((code, body["error"].as_str().unwrap()), (422, why));
}

#[tokio::test]
async fn images_that_cannot_be_had() {
    let w = world().await;
    w.app().await;
    let create = |image: &str| {
        w.call(Method::POST, "/v1/apps/web/machines", json!({ "config": { "image": image } }))
    };
    let unknown = create("other").await;
    assert_eq!(error(&unknown), (400, "config.image: resolve \"other\": no image other"));
    // A registry that knows no such image, or not for us: asking again is no use.
    for refused in [HostError::NotFound("none".into()), HostError::Invalid("none".into())] {
        w.host.fail_next("resolve_image", refused);
        let unknown = create("nginx").await;
        assert_eq!(error(&unknown), (400, "config.image: resolve \"nginx\": none"));
    }
    // One that cannot be asked may be there later.
    for away in
        [HostError::DeadlineExceeded("no answer".into()), HostError::Internal("no answer".into())]
    {
        w.host.fail_next("resolve_image", away);
        let away = create("nginx").await;
        assert_eq!(error(&away), (502, "config.image: resolve \"nginx\": no answer"));
    }
    let names = w.get("/v1/apps/web").await.1["machine_count"].clone();
    assert_eq!(names, json!(0), "nothing is claimed");
}

#[tokio::test]
async fn machines_are_listed_by_owner_and_not_by_age() {
    let w = world().await;
    w.app().await;
    let former = w.machine(json!({ "name": "former" })).await;
    assert_eq!(w.delete("/v1/apps/web?force=true").await.0, 202);
    w.clock.advance(std::time::Duration::from_secs(3600));
    w.app().await;
    // The fake host's clock is behind: the machine seems older than its app.
    let own = w.machine(json!({ "name": "own" })).await;
    w.machine(json!({ "name": "gone" })).await;
    let list = async |query: &str| {
        let (code, list) = w.get(&format!("/v1/apps/web/machines{query}")).await;
        assert_eq!(code, 200, "{list}");
        let names = list.as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(list("").await, "own gone");
    let gone = "/v1/apps/web/machines/gone?force=true";
    assert_eq!(w.delete(gone).await.0, 200);
    assert_eq!(list("").await, "own");
    assert_eq!(list("?include_deleted=true").await, "own gone");
    assert_eq!(w.get(&at(&former, "")).await.0, 404);
    assert_eq!(w.get(&at(&own, "")).await.1["host_features"], json!([]));
}

#[tokio::test]
async fn lists_are_filtered() {
    let w = world().await;
    w.app().await;
    let labelled = |name: &str| json!({ "name": name, "config": { "image": "nginx", "metadata": { "role": name, "all": "1" } } });
    let a = w.machine(labelled("a")).await;
    w.machine(labelled("b")).await;
    w.machine(json!({ "name": "c", "skip_launch": true })).await;
    w.post(&at(&a, "/stop"), Value::Null).await;
    for (query, names) in [
        ("", "a b c"),
        ("?state=stopped", "a"),
        ("?state=created,started", "b c"),
        ("?metadata.role=b&metadata.all=1", "b"),
        ("?metadata.role=b&metadata.all=2", ""),
        ("?region=ams", ""),
        ("?region=local&include_deleted=true", "a b c"),
    ] {
        let (code, list) = w.get(&format!("/v1/apps/web/machines{query}")).await;
        let list: Vec<_> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!((code, list.join(" ").as_str()), (200, names), "{query}");
    }
    let (_, summary) = w.get("/v1/apps/web/machines?summary=true").await;
    assert!(summary[0].get("config").is_none());
    let bad = w.get("/v1/apps/web/machines?state=asleep").await;
    assert_eq!(error(&bad), (400, "state: there is no state \"asleep\""));
}

#[tokio::test]
async fn an_update_makes_a_new_version() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "a" })).await;
    let ask = |version: &Value| json!({ "config": { "image": "nginx:2" }, "name": "ignored", "current_version": version });
    let (code, updated) = w.post(&at(&machine, ""), ask(&machine["instance_id"])).await;
    assert_eq!((code, &updated["name"]), (200, &json!("a")), "{updated}");
    assert_ne!(updated["instance_id"], machine["instance_id"]);
    assert_eq!(updated["id"], machine["id"]);
    let stale = w.post(&at(&machine, ""), ask(&machine["instance_id"])).await;
    assert_eq!(error(&stale), (412, "the machine has been changed"));
    let (_, versions) = w.get(&at(&machine, "/versions")).await;
    assert_eq!(versions.as_array().unwrap().len(), 2);
    assert_eq!(versions[0]["user_config"]["image"], "nginx:2");
    let hidden = json!({ "config": { "image": "nginx" }, "skip_service_registration": true });
    let mut refused = hidden.clone();
    refused["current_version"] = machine["instance_id"].clone();
    assert_eq!(w.post(&at(&machine, ""), refused).await.0, 412);
    assert!(!w.get(&at(&machine, "")).await.1["cordoned"].as_bool().unwrap_or(false));
    assert_eq!(w.post(&at(&machine, ""), hidden).await.1["cordoned"], true);
    let empty = w.post(&at(&machine, ""), json!({})).await;
    assert_eq!(error(&empty), (400, "config: is required"));
}

#[tokio::test]
async fn an_update_keeps_an_imported_image_whose_name_is_removed() {
    let w = world().await;
    w.app().await;
    let import = async |tar: &'static str| {
        let request = w.request(Method::POST, "/v1/images/import?name=app:1").body(tar);
        assert!(request.send().await.unwrap().text().await.unwrap().contains("done"));
    };
    import("one").await;
    let machine = w.machine(json!({ "config": { "image": "app:1" } })).await;
    let update = async |image: &str| {
        let (code, updated) =
            w.post(&at(&machine, ""), json!({ "config": { "image": image } })).await;
        assert_eq!(code, 200, "{updated}");
        updated["image_ref"]["digest"].clone()
    };
    let first = &machine["image_ref"]["digest"];
    assert_eq!(w.delete("/v1/images?reference=app:1").await.0, 200);
    // The imaginary registry has another image of that name.
    assert_eq!(update("app:1").await, *first);
    import("another").await;
    assert_ne!(update("app:1").await, *first, "a newly imported image is taken");
}

#[tokio::test]
async fn the_verbs_of_a_life() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "a" })).await;
    let ok = (200, json!({ "ok": true }));
    assert_eq!(w.post(&at(&machine, "/stop"), json!({ "timeout": "0s" })).await, ok);
    let usual = Stop { signal: None, timeout_ms: None };
    assert_eq!(w.host.stops().pop(), Some(usual));
    let (_, started) = w.post("/v1/apps/web/machines/a/start", Value::Null).await;
    let expected = json!({
        "previous_state": "stopped", "migrated": false, "new_host": "", "resumed": false,
    });
    assert_eq!(started, expected);
    let (_, again) = w.post(&at(&machine, "/start"), Value::Null).await;
    assert_eq!(again["previous_state"], "started", "a start of what runs is no failure");
    let restart = at(&machine, "/restart?timeout=10s&signal=SIGTERM&force_stop=false");
    assert_eq!(w.post(&restart, Value::Null).await, ok);
    let asked = Stop { signal: Some(15), timeout_ms: Some(10_000) };
    assert_eq!(w.host.stops().pop(), Some(asked));
    for (signal, number) in [(json!(9), 9), (json!("SIGUSR1"), 10), (json!("hup"), 1)] {
        assert_eq!(w.post(&at(&machine, "/signal"), json!({ "signal": signal })).await, ok);
        assert_eq!(w.host.calls().pop(), Some(format!("signal {} {number}", id(&machine))));
    }
    assert_eq!(w.post(&at(&machine, "/cordon"), Value::Null).await, ok);
    assert_eq!(w.get(&at(&machine, "")).await.1["cordoned"], true);
    assert_eq!(w.post(&at(&machine, "/uncordon"), Value::Null).await, ok);
    let (_, events) = w.get(&at(&machine, "/events?limit=2")).await;
    assert_eq!(events.as_array().unwrap().len(), 2);
    assert_eq!(w.delete(&at(&machine, "")).await.0, 409, "it runs");
    assert_eq!(w.delete(&at(&machine, "?force=true")).await, ok);
    assert_eq!(w.get(&at(&machine, "")).await.1["state"], "destroyed");
    assert_eq!(w.get("/v1/apps/web/machines/a").await.0, 404, "the name is free");
    w.machine(json!({ "name": "a" })).await;
}

#[tokio::test]
async fn what_the_verbs_refuse() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    for (path, body, expected) in [
        ("/stop", json!({ "signal": "SIGX" }), (400, "signal: there is no signal \"SIGX\"")),
        ("/stop", json!({ "timeout": "6m" }), (400, "timeout: must be at most 300s")),
        (
            "/restart?timeout=soon",
            Value::Null,
            (400, "timeout: must be seconds or a duration such as 10s"),
        ),
        ("/signal", json!({ "signal": 99 }), (400, "signal: there is no signal \"99\"")),
    ] {
        let answer = w.post(&at(&machine, path), body).await;
        assert_eq!(error(&answer), expected, "{path}");
    }
}

#[tokio::test]
async fn a_wait_ends_when_the_state_is_pushed_or_with_408() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "skip_launch": true })).await;
    let (code, now) = w.get(&at(&machine, "/wait?state=created")).await;
    assert_eq!((code, &now["ok"], &now["state"]), (200, &json!(true), &json!("created")));
    assert_eq!(now["version"], machine["instance_id"]);
    let path = at(&machine, "/wait?state=started,failed&timeout=60");
    let waiting = w.get(&path);
    let pushing =
        async { w.host.apply_events(id(&machine), &[Event::Start, Event::Running]).unwrap() };
    let ((code, reached), ()) = tokio::join!(waiting, pushing);
    assert_eq!((code, &reached["state"]), (200, &json!("started")));
    let late = w.get(&at(&machine, "/wait?state=stopped&state=failed&timeout=0")).await;
    assert_eq!(error(&late), (408, "the machine did not get there in time"));
    assert_eq!(w.get(&at(&machine, "/wait?state=settled&timeout=9999")).await.0, 200);
    for query in ["state=asleep", "version=soon", "from_event_id=x"] {
        assert_eq!(w.get(&at(&machine, &format!("/wait?{query}"))).await.0, 400, "{query}");
    }
}

#[tokio::test]
async fn labels() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "a" })).await;
    let labels = || async { w.get("/v1/apps/web/machines/a/metadata").await.1 };
    assert_eq!(labels().await, json!({}));
    let key = |key: &str| at(&machine, &format!("/metadata/{key}"));
    assert_eq!(w.post(&key("role"), json!({ "value": "db" })).await, (204, Value::Null));
    assert_eq!(w.get(&key("role")).await, (200, json!({ "value": "db" })));
    assert_eq!(w.post(&key("empty"), json!({ "value": "" })).await.0, 204);
    assert_eq!(w.get(&key("empty")).await, (200, json!({ "value": "" })));
    assert_eq!(w.delete(&key("empty")).await.0, 204);
    assert_eq!(error(&w.get(&key("x")).await), (404, "metadata key \"x\" is not set"));
    let bulk = at(&machine, "/metadata");
    let change = json!({ "metadata": { "role": null, "a": "1", "b": "" } });
    assert_eq!(w.call(Method::PATCH, &bulk, change).await.0, 204);
    assert_eq!(labels().await, json!({ "a": "1" }));
    let change =
        json!({ "metadata": { "c": "3", "d": null }, "machine_version": machine["version"] });
    assert_eq!(w.call(Method::PUT, &bulk, change).await.0, 204);
    assert_eq!(labels().await, json!({ "c": "3" }));
    let stale = json!({ "metadata": {}, "machine_version": "01AAAAAAAAAAAAAAAAAAAAAAAA" });
    assert_eq!(w.call(Method::PATCH, &bulk, stale).await.0, 412);
    assert_eq!(w.delete(&key("c")).await.0, 204);
    assert_eq!(labels().await, json!({}));
    let after = w.get(&at(&machine, "")).await.1;
    assert_eq!(after["instance_id"], machine["instance_id"], "no new version");
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_is_no_failure() {
    let w = world().await;
    w.app().await;
    let broken = HostError::Unavailable { message: "it broke".into(), may_have_run: true };
    w.host.lose_answer("create", broken);
    let machine = w.machine(json!({ "name": "a" })).await;
    assert_eq!(w.get("/v1/apps/web/machines/a").await.1["id"], machine["id"]);
}

#[tokio::test]
async fn a_machine_whose_claim_was_released_while_it_was_created_is_destroyed() {
    let w = world().await;
    w.app().await;
    // The host is so slow that the reconciler takes the claim for abandoned.
    let hold = w.host.pause_next("create");
    let ask = json!({ "name": "a", "config": { "image": "nginx" } });
    let creating = w.post("/v1/apps/web/machines", ask);
    let meanwhile = async {
        hold.reached().await;
        w.clock.advance(std::time::Duration::from_secs(121));
        w.reconcile().await;
        hold.release();
    };
    let (refused, ()) = tokio::join!(creating, meanwhile);
    assert_eq!(refused.0, 503, "{refused:?}");
    assert_eq!(w.host.states(), ["destroyed"], "it has no owner");
    w.machine(json!({ "name": "a" })).await;
}

#[tokio::test]
async fn a_hundred_creates_at_once_all_succeed() {
    let w = world().await;
    w.host.set_memory(1 << 20);
    let apps = ["web", "one", "two", "three", "four"];
    let made =
        (0..apps.len()).map(async |n| w.post("/v1/apps", json!({ "app_name": apps[n] })).await);
    for (code, json) in futures_util::future::join_all(made).await {
        assert_eq!(code, 201, "{json}");
    }
    for spread in [1, apps.len()] {
        let creates = (0..100).map(async |n| {
            let path = format!("/v1/apps/{}/machines", apps[n % spread]);
            w.post(&path, json!({ "config": { "image": "nginx" } })).await
        });
        for (code, json) in futures_util::future::join_all(creates).await {
            assert_eq!(code, 200, "{json}");
        }
    }
    let (_, listed) = w.get("/v1/apps/web/machines").await;
    let listed = listed.as_array().unwrap();
    let addresses: std::collections::HashSet<_> =
        listed.iter().map(|m| m["private_ip"].as_str().unwrap()).collect();
    assert_eq!((listed.len(), addresses.len(), w.host.alive().len()), (120, 120, 200));
}

#[tokio::test]
async fn a_call_whose_answer_is_lost_is_repeated_once_and_a_restart_is_done_once() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "a" })).await;
    let broken = || HostError::Unavailable { message: "it broke".into(), may_have_run: true };
    w.host.lose_answer("restart", broken());
    assert_eq!(w.post(&at(&machine, "/restart"), json!({})).await.0, 200);
    let restarts = w.host.calls().iter().filter(|call| call.starts_with("restart")).count();
    assert_eq!(restarts, 1);
    w.host.lose_answer("destroy", broken());
    assert_eq!(w.delete(&at(&machine, "?force=true")).await.0, 200);
    assert_eq!(w.host.states(), ["destroyed"]);
}

#[tokio::test]
async fn a_change_that_may_have_been_done_is_504_and_not_to_be_repeated_blindly() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "a" })).await;
    let broken = || HostError::Unavailable { message: "it broke".into(), may_have_run: true };
    // The first one, and its repetition.
    w.host.fail_next("stop", broken());
    w.host.fail_next("stop", HostError::unreachable("it is away"));
    let answer = w.post(&at(&machine, "/stop"), json!({})).await;
    assert_eq!(error(&answer), (504, "it broke"));
    assert!(answer.1["hint"].as_str().unwrap().contains("may have been done"), "{answer:?}");
    w.host.fail_next("stop", HostError::DeadlineExceeded("it is slow".into()));
    assert_eq!(w.post(&at(&machine, "/stop"), json!({})).await.0, 504);
    w.host.fail_next("stop", HostError::unreachable("it is away"));
    assert_eq!(w.post(&at(&machine, "/stop"), json!({})).await.0, 503);
}

#[tokio::test]
async fn names_that_could_be_ids_or_calls_are_refused_and_an_id_wins() {
    let w = world().await;
    w.app().await;
    for (name, why) in [
        ("0123456789abcd", "name: must not have the form of a machine id: \"0123456789abcd\""),
        ("batch", "name: must not be the path of a call of the API: \"batch\""),
    ] {
        let ask = json!({ "name": name, "config": { "image": "nginx" } });
        assert_eq!(error(&w.post("/v1/apps/web/machines", ask).await), (400, why));
    }
    w.machine(json!({ "name": "0123456789ABCD" })).await;
    let machine = w.machine(json!({ "name": "batch-1" })).await;
    assert_eq!(w.get(&at(&machine, "")).await.1["id"], machine["id"]);
}

#[tokio::test]
async fn events_are_paged() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    for call in ["/stop", "/start", "/stop"] {
        w.post(&at(&machine, call), Value::Null).await;
    }
    let (_, all) = w.get(&at(&machine, "/events")).await;
    let (mut seen, mut before) = (Vec::new(), String::new());
    loop {
        let (code, page) = w.get(&at(&machine, &format!("/events?limit=2&before={before}"))).await;
        assert_eq!(code, 200);
        let page = page.as_array().unwrap().clone();
        let Some(last) = page.last() else { break };
        before = last["id"].as_str().unwrap().to_owned();
        seen.extend(page);
    }
    assert_eq!(json!(seen), all);
    let bad = w.get(&at(&machine, "/events?before=x")).await;
    assert_eq!(error(&bad), (400, "before: event id \"x\" is not valid: a ULID of 26 characters"));
}

#[tokio::test]
async fn memory_of_a_machine_that_runs() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "lease_ttl": 60 })).await;
    let memory = at(&machine, "/memory");
    let held = json!({ "limit_mb": 256, "available_mb": 192 });
    assert_eq!(w.get(&memory).await, (200, held.clone()));
    let put = async |body: Value| w.call(Method::PUT, &memory, body).await;
    assert_eq!(put(json!({ "limit_mb": 256 })).await, (200, held));
    assert_eq!(put(json!({ "limit_mb": 128 })).await.0, 422);
    assert_eq!(
        error(&put(json!({ "limit_mb": 0 })).await),
        (400, "limit_mb: must be at least 1 (MiB)")
    );
    assert_eq!(put(json!({})).await.0, 400);
    let reclaim = at(&machine, "/memory/reclaim");
    let given = w.post(&reclaim, json!({ "amount_mb": 10 })).await;
    assert_eq!(given, (200, json!({ "actual_mb": 10 })), "no lease guards it");
    assert_eq!(w.post(&reclaim, json!({ "amount_mb": -1 })).await.0, 400);
    let (_, versions) = w.get(&at(&machine, "/versions")).await;
    assert_eq!(versions.as_array().unwrap().len(), 1);
    let nonce = machine["nonce"].as_str().unwrap();
    w.post(&at(&machine, &format!("/stop?nonce={nonce}")), Value::Null).await;
    assert_eq!(w.get(&memory).await.0, 409);
}
