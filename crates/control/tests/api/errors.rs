//! Every error has one shape, whoever made it.

use crate::world::{TOKEN, at, error, world};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn tokens_in_all_forms() {
    let w = world().await;
    let with = async |header: Option<&str>| {
        let mut request = w.client.get(format!("http://{}/v1/apps", w.addr));
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        request.send().await.unwrap()
    };
    for scheme in ["Bearer ", "FlyV1 ", "Bearer FlyV1 ", ""] {
        assert_eq!(with(Some(&format!("{scheme}{TOKEN}"))).await.status(), 200, "{scheme}");
        assert_eq!(with(Some(&format!("{scheme}fm2_x,{TOKEN}"))).await.status(), 200, "{scheme}");
    }
    for header in [None, Some("Bearer"), Some("Bearer wrong"), Some("Basic Zm9v")] {
        let answer = with(header).await;
        assert_eq!(answer.status(), 401, "{header:?}");
        assert_eq!(answer.headers()["fly-request-id"].len(), 26);
        let json: Value = answer.json().await.unwrap();
        assert!(json["error"].as_str().unwrap().starts_with("unauthorized: "), "{json}");
    }
    // A new token in the file is the only one that counts.
    w.api.ensure_defaults("another").await.unwrap();
    assert_eq!(with(Some(TOKEN)).await.status(), 401);
    assert_eq!(with(Some("Bearer another")).await.status(), 200);
}

#[tokio::test]
async fn what_is_not_there() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    for (path, expected) in [
        ("/v1/apps/x", "Could not find App \"x\""),
        ("/v1/apps/x/machines", "Could not find App \"x\""),
        ("/v1/apps/x/machines/a", "Could not find App \"x\""),
        ("/v1/apps/x/logs", "Could not find App \"x\""),
        ("/v1/apps/..%2f..%2forgs%2fpersonal", "Could not find App \"../../orgs/personal\""),
        ("/v1/apps/web/machines/a", "machine not found: app \"web\" has no machine \"a\""),
        (
            "/v1/apps/web/machines/00000000000000",
            "machine not found: app \"web\" has no machine \"00000000000000\"",
        ),
        ("/v1/nothing", "there is no GET /v1/nothing"),
    ] {
        assert_eq!(error(&w.get(path).await), (404, expected), "{path}");
    }
    // A machine is only found in its own app.
    w.post("/v1/apps", json!({ "name": "other" })).await;
    let elsewhere = at(&machine, "").replace("/web/", "/other/");
    assert_eq!(w.get(&elsewhere).await.0, 404);
    assert_eq!(w.call(Method::PUT, "/v1/apps", Value::Null).await.0, 405);
}

#[tokio::test]
async fn bodies_that_are_refused() {
    let w = world().await;
    w.app().await;
    let path = "/v1/apps/web/machines";
    let create = async |body: String| {
        let answer = w.request(Method::POST, path).body(body).send().await.unwrap();
        let code = answer.status().as_u16();
        (code, answer.json::<Value>().await.unwrap())
    };
    let service = |more: &str| {
        format!(
            r#"{{"config":{{"image":"nginx","services":[{{"protocol":"tcp","internal_port":80{more}}}]}}}}"#
        )
    };
    for (body, expected) in [
        ("{".to_owned(), (400, "body: EOF while parsing an object at line 1 column 1")),
        (String::new(), (400, "config: is required")),
        (
            service(r#","autostart":"true""#),
            (
                400,
                "config.services[0].autostart: invalid type: string \"true\", expected a boolean at line 1 column 94",
            ),
        ),
        (
            r#"{"config":{"image":"","env":{"FLY_A":"1"}}}"#.to_owned(),
            (
                400,
                "config.image: is required; config.env.FLY_A: names that begin with FLY_ are set by the platform",
            ),
        ),
        (
            r#"{"config":{"image":"nginx","mounts":[{"volume":"vol_1","path":"/d"}]}}"#.to_owned(),
            (422, "config.mounts: volumes are not supported yet"),
        ),
        (
            r#"{"name":"A!","config":{"image":"nginx"}}"#.to_owned(),
            (
                400,
                "name: machine name \"A!\" is not valid: 1 to 63 lower-case letters, digits and dashes, neither beginning nor ending with a dash",
            ),
        ),
        (
            r#"{"lease_ttl":30,"config":{"image":"nginx"}}"#.to_owned(),
            (422, "lease_ttl: leases are not supported yet"),
        ),
        (
            format!(r#"{{"config":{{"image":"{}"}}}}"#, "x".repeat(70_000)),
            (413, "the body is larger than 65536 bytes"),
        ),
    ] {
        let answer = create(body).await;
        assert_eq!(error(&answer), expected);
    }
}

#[tokio::test]
async fn requests_are_counted_by_route() {
    let w = world().await;
    w.app().await;
    w.get("/v1/apps/x").await;
    w.get("/v1/whatever/the/client/likes").await;
    // Whoever makes up methods, even without a token, makes no labels.
    for method in ["FLOOD1", "FLOOD2"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("http://{}/v1/apps", w.addr);
        assert_eq!(w.client.request(method, url).send().await.unwrap().status(), 401);
    }
    let metrics = w.metrics();
    for line in [
        r#"updraft_api_requests_total{route="OTHER /v1/apps",status="401"} 2"#,
        r#"updraft_api_requests_total{route="unmatched",status="404"} 1"#,
        r#"updraft_api_requests_total{route="POST /v1/apps",status="201"} 1"#,
        r#"updraft_api_requests_total{route="GET /v1/apps/{app}",status="404"} 1"#,
        r#"updraft_api_request_seconds_count{route="POST /v1/apps"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(!metrics.contains("whatever") && !metrics.contains("FLOOD"), "{metrics}");
}

#[tokio::test]
async fn what_the_platform_consists_of() {
    let w = world().await;
    w.app().await;
    w.machine(json!({})).await;
    let (_, hosts) = w.get("/v1/platform/hosts").await;
    let expected = json!([{
        "host": 0, "region": "local", "accelerator": "tcg", "hypervisor": "", "cpus": 2,
        "memory_mib": 4096, "memory_reserved_mib": 256, "memory_used_mib": 64, "overcommit": 1.5,
        "templates": ["1x256"], "machines": { "started": 1 },
    }]);
    assert_eq!(hosts, expected);
    let (_, regions) = w.get("/v1/platform/regions").await;
    assert_eq!(
        (&regions["Nearest"], &regions["Regions"][0]["code"]),
        (&json!("local"), &json!("local"))
    );
    // Of 6144 MiB that may be promised.
    assert_eq!(regions["Regions"][0]["capacity"], 23);
    let (_, token) = w.get("/v1/tokens/current").await;
    assert_eq!(token["tokens"][0]["type"], "admin");
    assert!(!token.to_string().contains(TOKEN));
}
