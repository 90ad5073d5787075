//! Health checks of machines.

use crate::world::{at, error, id, world};
use serde_json::json;
use wire::machines::{CheckReport, CheckRun};

#[tokio::test]
async fn checks_are_shown_in_short_and_in_detail() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    assert_eq!(w.get(&at(&machine, "/checks")).await, (200, json!([])));
    let report = CheckReport {
        name: "servicecheck-00-http-8080".into(),
        kind: "http".into(),
        purpose: "readiness".into(),
        status: "critical".into(),
        output: "no database".into(),
        updated_at: "2026-11-20T10:00:01.000Z".into(),
        passes: 0,
        failures: 4,
        last_run: Some(CheckRun {
            at: "2026-11-20T10:01:01.000Z".into(),
            took_ms: 1.5,
            passed: false,
            request: "GET http://172.30.0.2:8080/".into(),
            response: "HTTP/1.1 500 Internal Server Error".into(),
        }),
    };
    w.host.set_checks(id(&machine), vec![report]).unwrap();
    let (code, detail) = w.get(&at(&machine, "/checks")).await;
    assert_eq!(code, 200);
    let expected = json!([{
        "name": "servicecheck-00-http-8080", "type": "http", "kind": "readiness",
        "status": "critical", "output": "no database", "updated_at": "2026-11-20T10:00:01.000Z",
        "passes": 0, "failures": 4,
        "last_run": { "at": "2026-11-20T10:01:01.000Z", "took_ms": 1.5, "passed": false,
                      "request": "GET http://172.30.0.2:8080/",
                      "response": "HTTP/1.1 500 Internal Server Error" },
    }]);
    assert_eq!(detail, expected);
    let short = json!([{ "name": "servicecheck-00-http-8080", "status": "critical",
                         "output": "no database", "updated_at": "2026-11-20T10:00:01.000Z" }]);
    assert_eq!(w.get(&at(&machine, "")).await.1["checks"], short);
    assert_eq!(w.get("/v1/apps/web/machines/lost/checks").await.0, 404);
}

#[tokio::test]
async fn checks_of_wrong_types_and_out_of_bounds_are_refused() {
    let w = world().await;
    w.app().await;
    for (check, why) in [
        (json!({ "type": "http", "port": 80, "path": 5 }), "config.checks.c.path: invalid type"),
        (
            json!({ "type": "http", "port": 80, "interval": "1s" }),
            "config.checks.c.interval: must be",
        ),
        (json!({ "type": "script" }), "config.checks.c.command: is required"),
        (
            json!({ "type": "tcp", "port": 80, "kind": "life" }),
            "config.checks.c.kind: must be one of",
        ),
    ] {
        let body = json!({ "config": { "image": "nginx", "checks": { "c": check } } });
        let answer = w.post("/v1/apps/web/machines", body).await;
        let (code, text) = error(&answer);
        assert_eq!(code, 400, "{text}");
        assert!(text.starts_with(why), "{text}");
    }
}

#[tokio::test]
async fn spans_that_are_moved_into_their_bounds_are_warned_of() {
    let w = world().await;
    w.app().await;
    let check = json!({ "type": "http", "interval": "100ms", "grace_period": "5m" });
    let services = json!([{ "internal_port": 80, "checks": [check] }]);
    let body = json!({ "config": { "image": "nginx", "services": services } });
    let request = w.request(reqwest::Method::POST, "/v1/apps/web/machines").json(&body);
    let answer = request.send().await.unwrap();
    let warnings: Vec<_> = answer.headers().get_all("updraft-warning").iter().collect();
    assert_eq!(
        warnings,
        [
            "config.services[0].checks[0].interval: is below 1s and is raised to 1s",
            "config.services[0].checks[0].grace_period: is above 60s and is lowered to 60s"
        ]
    );
    let machine: serde_json::Value = answer.json().await.unwrap();
    let kept = &machine["config"]["services"][0]["checks"][0];
    assert_eq!(kept["interval"], "100ms", "as it was given");
}
