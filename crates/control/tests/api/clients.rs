//! Requests in the forms that client libraries of the Machines API are known to send.

use crate::world::{at, error, world};
use serde_json::{Value, json};

#[tokio::test]
async fn a_client_that_writes_every_optional_field_as_null() {
    let w = world().await;
    w.app().await;
    let body = json!({
        "name": null, "region": null, "lease_ttl": null, "lsvd": null, "skip_launch": null,
        "skip_service_registration": null,
        "config": {
            "image": "nginx", "auto_destroy": false, "init": null, "env": null, "processes": null,
            "guest": { "cpu_kind": "shared", "cpus": 1, "memory_mb": 256, "gpu_kind": null,
                       "gpus": null, "kernel_args": null },
            "mounts": null, "dns": null, "files": null, "metadata": null, "metrics": null,
            "restart": { "policy": "no", "max_retries": null, "gpu_bid_price": null },
            // One check in place of a map of them, with nothing in it.
            "checks": { "type": null, "port": null, "interval": null, "headers": null },
            "schedule": null, "services": null, "standbys": null, "statics": null,
            "stop_config": null,
        },
    });
    let (code, machine) = w.post("/v1/apps/web/machines", body).await;
    assert_eq!(code, 200, "{machine}");
    assert_eq!(machine["config"]["restart"]["policy"], "no");
    assert_eq!(machine["checks"], json!([]));
    // A wait is decoded as a machine whose fields are all optional.
    let (code, waited) = w.get(&at(&machine, "/wait?state=started&timeout=5")).await;
    assert_eq!((code, &waited["ok"]), (200, &json!(true)), "{waited}");
}

#[tokio::test]
async fn a_client_that_writes_zero_values() {
    let w = world().await;
    w.app().await;
    let config = json!({
        "image": "nginx", "env": null, "metadata": null,
        "guest": { "cpu_kind": "", "cpus": 0, "memory_mb": 0 },
        "restart": { "policy": "", "max_retries": 0 },
        "stop_config": { "timeout": "", "signal": "" },
    });
    let body = json!({ "config": config, "name": "", "region": "", "lease_ttl": 0, "lsvd": true });
    let (code, machine) = w.post("/v1/apps/web/machines", body).await;
    assert_eq!(code, 200, "{machine}");
    assert_eq!(machine["config"]["guest"]["memory_mb"], 256);
}

#[tokio::test]
async fn a_client_that_names_machines_after_addresses() {
    let w = world().await;
    w.app().await;
    let service = json!({ "autostart": true, "autostop": true, "internal_port": 50051,
                          "ports": [{ "port": 51000 }] });
    let body = json!({
        "name": "mediator-100.64.0.7", "region": "local",
        "config": { "image": "nginx", "env": {}, "metadata": { "meter": "7" },
                    "processes": [{ "cmd": ["serve"] }],
                    "services": [service, { "autostart": true, "autostop": true, "internal_port": 80 }] },
    });
    let (code, machine) = w.post("/v1/apps/web/machines", body).await;
    assert_eq!((code, &machine["name"]), (200, &json!("mediator-100.64.0.7")), "{machine}");
    let (code, found) = w.get("/v1/apps/web/machines/mediator-100.64.0.7").await;
    assert_eq!((code, &found["id"]), (200, &machine["id"]));
    let (_, listed) = w.get("/v1/apps/web/machines?region=local").await;
    assert_eq!(listed[0]["config"]["metadata"]["meter"], "7");
}

#[tokio::test]
async fn forms_of_no_version_of_the_api_are_refused_by_field() {
    let w = world().await;
    w.app().await;
    for (config, expected) in [
        (
            json!({ "checks": { "c": { "type": "tcp", "port": 80, "interval": 10 } } }),
            "config.checks.c.interval: must be from 2s to 1h; a number counts nanoseconds",
        ),
        (
            json!({ "checks": { "c": { "type": "http", "port": 80, "headers": { "A": "1" } } } }),
            "config.checks.c.headers: invalid type: map, expected a list of header fields",
        ),
        (
            json!({ "stop_config": { "timeout": { "duration": 5 } } }),
            "config.stop_config.timeout: a duration must be a text such as \"10s\", nanoseconds",
        ),
        (json!({ "restart": { "policy": "onfailure" } }), "config.restart.policy: "),
    ] {
        let mut config = config;
        config["image"] = json!("nginx");
        let answer = w.post("/v1/apps/web/machines", json!({ "config": config })).await;
        let (code, why) = error(&answer);
        assert_eq!(code, 400, "{why}");
        assert!(why.starts_with(expected), "{why}");
    }
    assert_eq!(w.get("/v1/apps/web/machines").await.1, Value::Array(vec![]));
}
