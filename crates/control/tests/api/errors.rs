//! Every error has one shape, whichever layer made it.

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
    // A new token in the file takes the place of the former one.
    let own = model::id::HostId(0);
    control::tokens::install_admin_token(&w.platform, own, "another").await.unwrap();
    assert_eq!(with(Some(TOKEN)).await.status(), 401);
    assert_eq!(with(Some("Bearer another")).await.status(), 200);
    // Another node of the control plane has a token file of its own.
    let second = model::id::HostId(1);
    control::tokens::install_admin_token(&w.platform, second, "second").await.unwrap();
    assert_eq!(with(Some("Bearer second")).await.status(), 200);
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
    for path in ["/v1/apps", &at(&machine, "")] {
        let answer = w.request(Method::PUT, path).send().await.unwrap();
        assert_eq!(answer.status(), 405, "{path}");
        let allowed = answer.headers()["allow"].to_str().unwrap().to_owned();
        assert!(allowed.contains("GET") && allowed.contains("POST"), "{path}: {allowed}");
    }
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
            r#"{"config":{"image":"","env":{"A=":"1"}}}"#.to_owned(),
            (
                400,
                "config.image: is required; config.env.A=: is not a name for an environment variable",
            ),
        ),
        (
            r#"{"config":{"image":"nginx","mounts":[{"volume":"vol_1","path":"/d"}]}}"#.to_owned(),
            (
                400,
                "config.mounts[0].volume: volume id \"vol_1\" is not valid: vol_ and 16 lower-case \
                 letters and digits",
            ),
        ),
        (
            r#"{"name":"A!","config":{"image":"nginx"}}"#.to_owned(),
            (
                400,
                "name: machine name \"A!\" is not valid: 1 to 63 letters, digits, dashes, dots and underscores, neither beginning nor ending with a dash or dot",
            ),
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
    // Unknown methods, even without a token, make no labels.
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
        "host": 0, "name": "host-0", "region": "local", "region_codes": [], "region_aliases": [], "ipv4_pool": null,
        "accelerator": "tcg", "hypervisor": "", "cpus": 2,
        "memory_mib": 4096, "memory_reserved_mib": 256, "memory_used_mib": 64, "overcommit": 1.0,
        "templates": ["1x256"], "machines": { "started": 1 },
    }]);
    assert_eq!(hosts, expected);
    let (_, regions) = w.get("/v1/platform/regions").await;
    assert_eq!(
        (&regions["Nearest"], &regions["Regions"][0]["code"]),
        (&json!("local"), &json!("local"))
    );
    // Of performance-1x.
    assert_eq!(regions["Regions"][0]["capacity"], 1);
    let (_, token) = w.get("/v1/tokens/current").await;
    assert_eq!(token["tokens"][0]["type"], "admin");
    assert!(!token.to_string().contains(TOKEN));
}

#[tokio::test]
async fn parts_that_are_not_built_are_named_and_never_404() {
    let w = world().await;
    for (method, path, part) in [
        ("GET", "/v1/apps/web/volumes/vol_1/snapshots", "snapshots of volumes are"),
        ("POST", "/v1/apps/web/certificates/acme", "certificates are"),
        ("GET", "/v1/apps/web/ip_assignments", "IP addresses of apps are"),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = w.call(method, path, Value::Null).await;
        let why = format!("{part} not supported yet");
        assert_eq!(error(&answer), (501, why.as_str()), "{path}");
        assert!(answer.1["hint"].is_string(), "{path}");
    }
}

#[tokio::test]
async fn a_slash_at_the_end_of_a_path_changes_nothing() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    for path in ["/v1/apps/", "/v1/apps/web/", "/v1/apps/web/machines/", &at(&machine, "/")] {
        assert_eq!(w.get(path).await.0, 200, "{path}");
    }
    assert_eq!(w.get(&at(&machine, "/wait/?state=started")).await.0, 200);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let w = world().await;
    let mut socket = tokio::net::TcpStream::connect(w.addr).await.unwrap();
    let head = format!(
        "POST /v1/apps HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\
         connection: close\r\ncontent-length: 10\r\n\r\n{{"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("the body did not arrive within 300ms"), "{answer}");
}
