//! Releases and builds, as flyctl records them.

use crate::tokens::make;
use crate::world::{TOKEN, TestWorld, at, error, world};
use control::releases::{self, MAX_KEPT, NewRelease, ReleaseChange};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use store::{KeyRange, Store};

/// What flyctl posts before it deploys.
fn ask(image: &str) -> Value {
    json!({
        "app_name": "web",
        "build_id": 0,
        "definition": { "app": "web", "primary_region": "local", "vm": [{ "memory": "256mb" }] },
        "image": image,
        "strategy": "ROLLING",
    })
}

/// A release of the app `web`; its JSON.
pub(crate) async fn release(w: &TestWorld, image: &str) -> Value {
    let (code, made) = w.post("/api/v1/releases", ask(image)).await;
    assert_eq!(code, 201, "{made}");
    made["release"].clone()
}

/// Reports the status of a release.
pub(crate) async fn report(w: &TestWorld, release: &Value, status: &str) -> (u16, Value) {
    let body = json!({ "status": status, "metadata": null });
    w.call(Method::PATCH, &path(release), body).await
}

fn path(release: &Value) -> String {
    format!("/api/v1/releases/{}", release["id"].as_str().unwrap())
}

/// Status and JSON of the answer to a call with this token.
async fn with(w: &TestWorld, token: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
    let request = w.client.request(method, format!("http://{}{path}", w.addr));
    let request = request.header("authorization", format!("Bearer {token}"));
    let answer = request.json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn keys(w: &TestWorld) -> Vec<String> {
    let mut keys = Vec::new();
    for prefix in ["/app-releases/", "/releases/", "/app-builds/"] {
        let range = w.store.range(KeyRange::prefix(prefix), None, None).await.unwrap();
        keys.extend(range.entries.into_iter().map(|entry| entry.key));
    }
    keys
}

#[tokio::test]
async fn a_release_is_made_reported_and_listed() {
    let w = world().await;
    w.app().await;
    assert_eq!(w.get("/api/v1/apps/web/releases").await, (200, json!({ "releases": [] })));
    let none = w.get("/api/v1/apps/web/releases/current").await;
    assert_eq!(error(&none), (404, "app \"web\" has no release that is complete"));
    let first = release(&w, "web:1").await;
    let id = first["id"].as_str().unwrap();
    assert!(id.starts_with("rel_") && id.len() == 28, "{id}");
    let expected = json!({
        "id": id, "version": 1, "stable": false, "in_progress": true, "status": "pending",
        "strategy": "ROLLING", "user": "admin", "created_at": "2023-11-14T22:13:20.000Z",
        "image_ref": "web:1",
    });
    assert_eq!(first, expected);
    assert_eq!(w.get("/v1/apps/web").await.1["status"], "pending", "nothing runs yet");
    let (code, running) = report(&w, &first, "running").await;
    assert_eq!((code, &running["status"]), (200, &json!("running")));
    // A client whose answer was lost reports it again.
    assert_eq!(report(&w, &first, "running").await, (200, running));
    assert_eq!(w.get("/api/v1/apps/web/releases/current").await.0, 404);
    let (code, complete) = report(&w, &first, "complete").await;
    assert_eq!(
        (code, &complete["stable"], &complete["in_progress"]),
        (200, &json!(true), &json!(false))
    );
    assert_eq!(w.get("/v1/apps/web").await.1["status"], "deployed");
    assert_eq!(w.get("/api/v1/apps/web/releases/current").await, (200, complete.clone()));
    w.clock.advance(std::time::Duration::from_secs(60));
    let second = release(&w, "web:2").await;
    assert_eq!(second["version"], 2);
    report(&w, &second, "failed").await;
    let (_, all) = w.get("/api/v1/apps/web/releases?limit=20").await;
    let versions: Vec<u64> = all["releases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["version"].as_u64().unwrap())
        .collect();
    assert_eq!(versions, [2, 1]);
    let (_, newest) = w.get("/api/v1/apps/web/releases?limit=1").await;
    assert_eq!(newest["releases"][0]["status"], "failed");
    // The one that failed has not replaced the one before it.
    assert_eq!(w.get("/api/v1/apps/web/releases/current").await, (200, complete));
    w.post("/v1/apps", json!({ "app_name": "other" })).await;
    let (code, times) = w.get("/api/v1/releases/all_current").await;
    assert_eq!((code, times), (200, json!({ "web": "2023-11-14T22:13:20.000Z" })));
    // Our own call of this name comes with deployments by the platform.
    assert_eq!(w.get("/v1/apps/web/releases").await.0, 501);
}

#[tokio::test]
async fn a_change_of_the_status_that_does_not_follow_is_a_conflict() {
    let w = world().await;
    w.app().await;
    for (reported, refused) in [
        (&["running", "complete"][..], "running"),
        (&["running", "failed"], "complete"),
        (&["running", "interrupted"], "running"),
        (&["running", "rolled_back"], "complete"),
        (&[], "rolled_back"),
    ] {
        let made = release(&w, "web:1").await;
        for status in reported {
            assert_eq!(report(&w, &made, status).await.0, 200, "{reported:?}");
        }
        let was = reported.last().unwrap_or(&"pending");
        let id = made["id"].as_str().unwrap();
        let why = format!("release {id}: a release that is {was} cannot become {refused}");
        assert_eq!(error(&report(&w, &made, refused).await), (409, &*why));
    }
}

#[tokio::test]
async fn notes_about_a_release_replace_those_before_and_null_keeps_them() {
    let w = world().await;
    w.app().await;
    let made = release(&w, "web:1").await;
    let info = json!({ "post_deployment_info": { "flyctl_version": "1", "error": "" } });
    let id = made["id"].as_str().unwrap();
    for (body, expected) in [
        (json!({ "status": "running", "metadata": null }), Value::Null),
        (json!({ "status": "complete", "metadata": info }), info.clone()),
        (json!({ "status": "complete" }), info.clone()),
        (json!({ "metadata": { "a": 1 } }), json!({ "a": 1 })),
        (json!({}), json!({ "a": 1 })),
    ] {
        let (code, changed) = w.call(Method::PATCH, &path(&made), body.clone()).await;
        assert_eq!((code, changed["id"].as_str()), (200, Some(id)), "{body}");
        let query =
            json!({ "query": "{ app(name: \"web\") { currentReleaseUnprocessed { metadata } } }" });
        let (_, shown) = w.post("/graphql", query).await;
        assert_eq!(
            shown["data"]["app"]["currentReleaseUnprocessed"]["metadata"], expected,
            "{body}"
        );
    }
}

#[tokio::test]
async fn what_is_not_valid_is_refused_with_its_field() {
    let w = world().await;
    w.app().await;
    let with = |field: &str, value: Value| {
        let mut body = ask("web:1");
        body[field] = value;
        body
    };
    let strategies = "strategy: must be one of BLUEGREEN, CANARY, IMMEDIATE, ROLLING, ROLLING_ONE, \
                      SIMPLE, not \"LATER\"";
    for (body, code, why) in [
        (with("app_name", json!("")), 400, "app_name: is required"),
        (with("app_name", json!("none")), 404, "Could not find App \"none\""),
        (
            with("definition", Value::Null),
            400,
            "definition: must be an object: the config of the app",
        ),
        (
            with("definition", json!([])),
            400,
            "definition: must be an object: the config of the app",
        ),
        (with("strategy", json!("LATER")), 400, strategies),
        (with("build_id", json!(-1)), 400, "build_id: must be the id of a build, or 0"),
        (
            with("image", json!("x".repeat(1025))),
            400,
            "image: must have at most 1024 characters, none of them for control",
        ),
    ] {
        let answer = w.post("/api/v1/releases", body).await;
        assert_eq!(error(&answer), (code, why));
    }
    // Beyond what a body may have here.
    let large = NewRelease {
        app: "web".into(),
        definition: json!({ "a": "x".repeat(300_000) }),
        ..NewRelease::default()
    };
    let refused = releases::create(&w.platform, large).await.unwrap_err().to_string();
    assert_eq!(refused, "definition: must have at most 262144 bytes, not 300008");
    // In letters of either case, and absent, as in a config.
    for (given, expected) in [(json!("bluegreen"), "BLUEGREEN"), (json!(""), "ROLLING")] {
        let (code, made) = w.post("/api/v1/releases", with("strategy", given)).await;
        assert_eq!((code, &made["release"]["strategy"]), (201, &json!(expected)));
    }
    let made = release(&w, "web:1").await;
    for (body, why) in [
        (
            json!({ "status": "done" }),
            "status: must be one of pending, running, complete, failed, interrupted, rolled_back, \
             not \"done\"",
        ),
        (json!({ "metadata": "x" }), "metadata: must be an object"),
        (
            json!({ "metadata": { "a": "x".repeat(20_000) } }),
            "metadata: must have at most 16384 bytes, not 20008",
        ),
    ] {
        let answer = w.call(Method::PATCH, &path(&made), body).await;
        assert_eq!(error(&answer), (400, why));
    }
    let unknown = format!("rel_{:024x}", 7);
    for id in [&*unknown, "7", "web-v0", "rel_x"] {
        let answer = w.call(Method::PATCH, &format!("/api/v1/releases/{id}"), json!({})).await;
        assert_eq!(error(&answer), (404, &*format!("there is no release {id:?}")));
    }
    let zero = w.get("/api/v1/apps/web/releases?limit=0").await;
    assert_eq!(error(&zero), (400, "limit: must be at least 1"));
}

#[tokio::test]
async fn releases_made_at_once_have_versions_of_their_own() {
    let w = world().await;
    w.app().await;
    let made = join_all((0..20).map(|n| {
        let w = &w;
        async move { release(w, &format!("web:{n}")).await }
    }));
    let made = made.await;
    let versions: BTreeSet<u64> = made.iter().map(|it| it["version"].as_u64().unwrap()).collect();
    assert_eq!(versions, (1..=20).collect());
    let ids: BTreeSet<&str> = made.iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 20);
    // Each is found by its id, with its own version.
    for one in &made {
        let (code, changed) = report(&w, one, "running").await;
        assert_eq!((code, &changed["version"]), (200, &one["version"]));
    }
}

#[tokio::test]
async fn a_request_with_a_key_makes_one_release_also_after_a_crash() {
    let w = world().await;
    w.app().await;
    let send = async |key: &str| {
        let request = w.request(Method::POST, "/api/v1/releases").header("idempotency-key", key);
        let answer = request.json(&ask("web:1")).send().await.unwrap();
        (answer.status(), answer.json::<Value>().await.unwrap())
    };
    let first = send("a").await;
    assert_eq!((first.0, &send("a").await), (StatusCode::CREATED, &first));
    assert_eq!(send("b").await.1["release"]["version"], 2);
    // As if the process had ended before it could record its answer.
    let ask = || NewRelease { app: "web".into(), definition: json!({}), ..NewRelease::default() };
    let keyed = w.platform.keyed("test", "key");
    let made = releases::create(&keyed, ask()).await.unwrap().release;
    assert_eq!(releases::create(&keyed, ask()).await.unwrap().release, made);
    assert_eq!(made.version, 3);
}

#[tokio::test]
async fn the_oldest_releases_make_room_and_go_with_their_app() {
    let w = world().await;
    w.app().await;
    let first = release(&w, "web:1").await;
    report(&w, &first, "complete").await;
    let ask = || NewRelease { app: "web".into(), definition: json!({}), ..NewRelease::default() };
    for _ in 0..MAX_KEPT + 5 {
        let made = releases::create(&w.platform, ask()).await.unwrap().release;
        let failed = ReleaseChange { status: Some("failed".into()), metadata: Value::Null };
        releases::change(&w.platform, &made.id.to_string(), failed).await.unwrap();
    }
    let all = w.get("/api/v1/apps/web/releases").await.1["releases"].clone();
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), MAX_KEPT);
    assert_eq!(
        (&all[0]["version"], &all[MAX_KEPT - 1]["version"]),
        (&json!(MAX_KEPT + 6), &json!(1))
    );
    assert_eq!(w.get("/api/v1/apps/web/releases/current").await.1["version"], 1);
    assert_eq!(keys(&w).await.len(), MAX_KEPT + 1, "what they deployed is removed with them");
    let (code, _) = w.post("/api/v1/builds", json!({ "app_name": "web" })).await;
    assert_eq!((code, keys(&w).await.len()), (200, MAX_KEPT + 2));
    assert_eq!(w.delete("/v1/apps/web").await.0, 202);
    assert_eq!(keys(&w).await, Vec::<String>::new());
    let gone = report(&w, &first, "complete").await;
    assert_eq!(gone.0, 404, "{gone:?}");
    // A new app of the name begins again, and shows nothing of the former one.
    w.app().await;
    assert_eq!(w.get("/api/v1/apps/web/releases").await.1, json!({ "releases": [] }));
    assert_eq!(release(&w, "web:1").await["version"], 1);
}

#[tokio::test]
async fn nothing_is_left_of_releases_that_are_made_while_their_app_is_deleted() {
    let w = world().await;
    w.app().await;
    let makes = (0..10).map(|_| w.post("/api/v1/releases", ask("web:1")));
    let (made, deleted) = tokio::join!(join_all(makes), w.delete("/v1/apps/web"));
    assert_eq!(deleted.0, 202);
    for (code, answer) in made {
        assert!([201, 404].contains(&code), "{code}: {answer}");
    }
    w.reconcile().await;
    assert_eq!(keys(&w).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_deploy_token_does_all_of_it_for_its_app_and_nothing_else() {
    let w = world().await;
    w.app().await;
    w.post("/v1/apps", json!({ "app_name": "other" })).await;
    let made = release(&w, "web:1").await;
    let (_, build) = w.post("/api/v1/builds", json!({ "app_name": "web" })).await;
    let opaque = make(&w, json!({ "type": "deploy", "app": "web", "name": "ci" })).await;
    let body = json!({ "type": "deploy", "app": "web", "name": "ci", "macaroon": true });
    let macaroon = make(&w, body).await;
    for own in [&opaque, &macaroon] {
        let (code, made) = with(&w, own, Method::POST, "/api/v1/releases", ask("web:1")).await;
        assert_eq!((code, &made["release"]["user"]), (201, &json!("ci")), "{made}");
        let of = path(&made["release"]);
        let (code, _) = with(&w, own, Method::PATCH, &of, json!({ "status": "complete" })).await;
        assert_eq!(code, 200);
        for of in ["/api/v1/apps/web/releases", "/api/v1/apps/web/releases/current"] {
            assert_eq!(with(&w, own, Method::GET, of, Value::Null).await.0, 200, "{of}");
        }
        let (_, times) =
            with(&w, own, Method::GET, "/api/v1/releases/all_current", Value::Null).await;
        assert_eq!(times.as_object().unwrap().len(), 1);
        let (code, begun) =
            with(&w, own, Method::POST, "/api/v1/builds", json!({ "app_name": "web" })).await;
        assert_eq!(code, 200, "{begun}");
        let (code, orgs) = with(&w, own, Method::GET, "/api/v1/organizations", Value::Null).await;
        assert_eq!((code, &orgs["organizations"][0]["slug"]), (200, &json!("personal")));
        let (_, apps) = with(&w, own, Method::GET, "/v1/apps?org_slug=personal", Value::Null).await;
        assert_eq!((&apps["total_apps"], &apps["apps"][0]["name"]), (&json!(1), &json!("web")));
    }
    let other = make(&w, json!({ "type": "deploy", "app": "other" })).await;
    let (_, foreign) = w.post("/v1/orgs", json!({ "name": "acme" })).await;
    assert_eq!(foreign["slug"], "acme");
    let (_, foreign) = w.post("/v1/orgs/acme/tokens", json!({ "type": "org" })).await;
    for token in [&*other, foreign["token"].as_str().unwrap()] {
        let none = (404, "Could not find App \"web\"");
        let refused = with(&w, token, Method::POST, "/api/v1/releases", ask("web:1")).await;
        assert_eq!(error(&refused), none);
        let body = json!({ "app_name": "web" });
        let refused = with(&w, token, Method::POST, "/api/v1/builds", body).await;
        assert_eq!(error(&refused), none);
        let body = json!({ "app_name": "web", "build_id": build["id"], "status": "failed" });
        let refused = with(&w, token, Method::POST, "/api/v1/builds/finish", body).await;
        assert_eq!(error(&refused), none);
        // As one that never was.
        let refused =
            with(&w, token, Method::PATCH, &path(&made), json!({ "status": "failed" })).await;
        let id = made["id"].as_str().unwrap();
        assert_eq!(error(&refused), (404, &*format!("there is no release {id:?}")));
        let (_, times) =
            with(&w, token, Method::GET, "/api/v1/releases/all_current", Value::Null).await;
        assert_eq!(times, json!({}));
    }
    let reader = make(&w, json!({ "type": "readonly", "name": "reader" })).await;
    let why =
        "forbidden: token \"reader\" may not write app \"web\": it lacks the permission to write";
    for (method, path, body) in [
        (Method::POST, "/api/v1/releases".to_owned(), ask("web:1")),
        (Method::PATCH, path(&made), json!({ "status": "failed" })),
        (Method::POST, "/api/v1/builds".to_owned(), json!({ "app_name": "web" })),
        (Method::POST, "/api/v1/builds/finish".to_owned(), json!({ "app_name": "web" })),
    ] {
        let refused = with(&w, &reader, method, &path, body).await;
        assert_eq!(error(&refused), (403, why), "{path}");
    }
    let listed = with(&w, &reader, Method::GET, "/api/v1/apps/web/releases", Value::Null).await;
    assert_eq!(listed.0, 200);
    // What was done is in the audit log of the organization, what was refused in the platform's.
    let (_, done) = w.get("/v1/orgs/personal/audit?limit=100").await;
    assert!(done.to_string().contains("/api/v1/releases/{release}"), "{done}");
    let (_, all) = w.get("/v1/platform/audit?limit=100").await;
    let is_refusal =
        |entry: &&Value| entry["route"] == "/api/v1/builds/finish" && entry["status"] == 403;
    assert_eq!(all["entries"].as_array().unwrap().iter().filter(is_refusal).count(), 1);
}

#[tokio::test]
async fn builds_are_recorded_from_their_begin_to_their_end() {
    let w = world().await;
    w.app().await;
    let begin = json!({
        "app_name": "web", "builder_type": "depot.dev",
        "strategies_available": ["Local Image Reference", "Remote Image Reference"],
    });
    let (code, build) = w.post("/api/v1/builds", begin).await;
    // Clients take the status 200 only.
    assert_eq!(
        (code, &build["status"], &build["wallclock_time_ms"]),
        (200, &json!("started"), &json!(0))
    );
    let id = build["id"].as_i64().unwrap();
    assert!((1..1 << 53).contains(&id), "{id}");
    w.clock.advance(std::time::Duration::from_millis(1500));
    let end = |id: i64, status: &str, logs: String| {
        json!({
            "app_name": "web", "build_id": id, "machine_id": "", "status": status, "logs": logs,
            "strategies_attempted":
                [{ "strategy": "Remote Image Reference", "result": "success", "note": "", "error": "" }],
            "builder_meta": { "builder_type": "depot.dev", "buildkit_enabled": false },
            "final_image": { "id": "sha256:1", "tag": "web:1", "size_bytes": 5 },
            "timings": { "build_ms": 1 },
        })
    };
    let finish = async |body: Value| w.post("/api/v1/builds/finish", body).await;
    let done = json!({ "id": id, "status": "completed", "wallclock_time_ms": 1500 });
    let body = || end(id, "completed", "done".into());
    assert_eq!(finish(body()).await, (200, done.clone()));
    w.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(finish(body()).await, (200, done), "a repetition changes nothing");
    let answer = finish(end(id, "failed", String::new())).await;
    assert_eq!(error(&answer), (409, &*format!("build {id} has ended: it is completed")));
    let answer = finish(end(id + 1, "failed", String::new())).await;
    assert_eq!(error(&answer), (404, &*format!("app \"web\" has no build {}", id + 1)));
    let answer = finish(end(id, "done", String::new())).await;
    assert_eq!(error(&answer), (400, "status: must be one of completed, failed, not \"done\""));
    let answer = finish(end(id, "failed", "x".repeat(17_000))).await;
    assert_eq!(answer.0, 400, "{answer:?}");
    assert!(error(&answer).1.starts_with("body: the report must have at most 16384 bytes"));
    // The oldest make room.
    for _ in 0..20 {
        assert_eq!(w.post("/api/v1/builds", json!({ "app_name": "web" })).await.0, 200);
    }
    assert_eq!(finish(body()).await.0, 404);
    assert_eq!(keys(&w).await.len(), 1);
    let many = json!({ "app_name": "web", "strategies_available": vec!["x"; 40] });
    let answer = w.post("/api/v1/builds", many).await;
    assert_eq!(error(&answer).0, 400, "{answer:?}");
    for path in ["/api/v1/builds/depot_builder", "/api/v1/organizations/personal/builders"] {
        let (code, answer) = w.post(path, json!({})).await;
        let why = "builds of images on the platform are not supported yet";
        assert_eq!((code, answer["error"].as_str()), (501, Some(why)));
        let hint = answer["hint"].as_str().unwrap();
        assert!(hint.contains("`--image`") && hint.contains("image import"), "{hint}");
    }
}

/// Releases over GraphQL are those of the REST calls.
#[tokio::test]
async fn graphql_shows_what_was_recorded() {
    let w = world().await;
    w.app().await;
    let query = "{ app(name: \"web\") {
        version status
        config { definition }
        currentRelease { version }
        currentReleaseUnprocessed {
            id version status stable inProgress deploymentStrategy imageRef configDefinition
            description reason user { email } createdAt
        }
        releases(first: 5) { nodes { version } }
        releasesUnprocessed(first: 1) { nodes { version status } }
    } }";
    let shown = async || {
        let (_, answer) = w.post("/graphql", json!({ "query": query })).await;
        assert_eq!(answer["errors"], Value::Null, "{answer}");
        answer["data"]["app"].clone()
    };
    w.machine(json!({})).await;
    let derived = shown().await;
    assert_eq!(
        (&derived["version"], &derived["config"]),
        (&json!(0), &json!({ "definition": {} }))
    );
    assert_eq!(derived["releases"]["nodes"], json!([{ "version": 0 }]));
    let first = release(&w, "web:1").await;
    let app = shown().await;
    let definition = ask("")["definition"].clone();
    assert_eq!(
        app["currentReleaseUnprocessed"],
        json!({
            "id": first["id"], "version": 1, "status": "pending", "stable": false,
            "inProgress": true, "deploymentStrategy": "ROLLING", "imageRef": "web:1",
            "configDefinition": definition, "description": "Release", "reason": "",
            "user": { "email": "admin" }, "createdAt": first["created_at"],
        })
    );
    assert_eq!(app["currentRelease"], Value::Null, "none is complete");
    report(&w, &first, "complete").await;
    release(&w, "web:2").await;
    let app = shown().await;
    assert_eq!((&app["version"], &app["currentRelease"]["version"]), (&json!(2), &json!(1)));
    assert_eq!(app["releases"]["nodes"], json!([{ "version": 2 }, { "version": 1 }]));
    assert_eq!(app["releasesUnprocessed"]["nodes"], json!([{ "version": 2, "status": "pending" }]));
    assert_eq!(app["config"]["definition"], definition);
    // In a list the releases of all apps are read at once, those of machines beside them.
    w.post("/v1/apps", json!({ "app_name": "empty" })).await;
    let query = "{ apps { nodes { name version currentRelease { version status } } } }";
    let (_, list) = w.post("/graphql", json!({ "query": query })).await;
    assert_eq!(
        list["data"]["apps"]["nodes"],
        json!([
            { "name": "empty", "version": 0, "currentRelease": null },
            { "name": "web", "version": 2,
              "currentRelease": { "version": 1, "status": "complete" } },
        ])
    );
}

/// Clients of earlier versions use mutations for what the REST calls do now.
#[tokio::test]
async fn mutations_do_what_the_rest_calls_do() {
    let w = world().await;
    w.app().await;
    let send = async |token: &str, text: &str, input: Value| {
        let url = format!("http://{}/graphql", w.addr);
        let request = w.client.post(url).header("authorization", format!("Bearer {token}"));
        let body = json!({ "query": text, "variables": { "input": input } });
        request.json(&body).send().await.unwrap().json::<Value>().await.unwrap()
    };
    let create = "mutation($input: CreateReleaseInput!) { createRelease(input: $input) {
        release { id version status } app { name } } }";
    let input = json!({
        "appId": "web", "definition": { "a": 1 }, "image": "web:1", "strategy": "CANARY",
        "platformVersion": "machines", "buildId": "7", "clientMutationId": "",
    });
    let made = send(TOKEN, create, input.clone()).await["data"]["createRelease"].clone();
    assert_eq!((&made["release"]["version"], &made["app"]["name"]), (&json!(1), &json!("web")));
    let update = "mutation($input: UpdateReleaseInput!) { updateRelease(input: $input) {
        release { status configDefinition deploymentStrategy } } }";
    let change = json!({ "releaseId": made["release"]["id"], "status": "complete" });
    let changed = send(TOKEN, update, change.clone()).await;
    assert_eq!(
        changed["data"]["updateRelease"]["release"],
        json!({ "status": "complete", "configDefinition": { "a": 1 }, "deploymentStrategy": "CANARY" })
    );
    let mut nomad = input.clone();
    nomad["platformVersion"] = json!("nomad");
    let refused = send(TOKEN, create, nomad).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "UNSUPPORTED", "{refused}");
    let build = "mutation($input: CreateBuildInput!) { createBuild(input: $input) { id status } }";
    let input = json!({ "appName": "web", "builderType": "local", "strategiesAvailable": [] });
    let built = send(TOKEN, build, input).await["data"]["createBuild"].clone();
    assert_eq!(built["status"], "started");
    let finish = "mutation($input: FinishBuildInput!) { finishBuild(input: $input) {
        id status wallclockTimeMs } }";
    let input = json!({
        "appName": "web", "buildId": built["id"], "status": "completed",
        "finalImage": { "id": "x", "tag": "web:1", "sizeBytes": "5" },
    });
    let done = send(TOKEN, finish, input).await;
    assert_eq!(done["data"]["finishBuild"]["status"], "completed", "{done}");
    let set = "mutation($input: SetSecretsInput!) { setSecrets(input: $input) {
        release { version } app { secrets { name } } } }";
    let unset = "mutation($input: UnsetSecretsInput!) { unsetSecrets(input: $input) {
        release { version } app { secrets { name } } } }";
    let pair = |key: &str| json!({ "key": key, "value": "x" });
    for (text, name, input, secrets) in [
        (set, "setSecrets", json!({ "appId": "web", "secrets": [pair("A"), pair("B")] }), "AB"),
        (unset, "unsetSecrets", json!({ "appId": "web", "keys": ["A"] }), "B"),
        (
            set,
            "setSecrets",
            json!({ "appId": "web", "secrets": [pair("C")], "replaceAll": true }),
            "C",
        ),
    ] {
        let answer = send(TOKEN, text, input).await;
        let answer = &answer["data"][name];
        let names = answer["app"]["secrets"].as_array().unwrap();
        let names: String = names.iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!((&*names, &answer["release"]["version"]), (secrets, &json!(1)));
    }
    let reader = make(&w, json!({ "type": "readonly" })).await;
    for (text, input) in [(update, change), (unset, json!({ "appId": "web", "keys": ["C"] }))] {
        let refused = send(&reader, text, input).await;
        assert_eq!(refused["errors"][0]["extensions"]["code"], "FORBIDDEN", "{refused}");
    }
    // A token for one app finds its organization, and nothing else of it.
    let own = make(&w, json!({ "type": "deploy", "app": "web" })).await;
    let query = "{ organizations { nodes { slug } } organization(slug: \"personal\") { id name } }";
    let seen = send(&own, query, Value::Null).await;
    assert_eq!(
        seen["data"],
        json!({
            "organizations": { "nodes": [{ "slug": "personal" }] },
            "organization": { "id": "personal", "name": "Personal" },
        })
    );
    let more = "{ organization(slug: \"personal\") { members { edges { role } } } }";
    let refused = send(&own, more, Value::Null).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "FORBIDDEN", "{refused}");
}

#[tokio::test]
async fn a_machine_with_a_release_in_its_labels_keeps_them() {
    let w = world().await;
    w.app().await;
    let made = release(&w, "nginx").await;
    let labels = json!({
        "fly_platform_version": "v2", "fly_release_id": made["id"], "fly_release_version": "1",
    });
    let config = json!({ "image": "nginx", "metadata": labels });
    let machine = w.machine(json!({ "config": config })).await;
    assert_eq!(w.get(&at(&machine, "")).await.1["config"]["metadata"], labels);
}
