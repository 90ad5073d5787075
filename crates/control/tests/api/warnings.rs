//! Warnings of what a call accepts and does not act on.

use crate::world::{TestWorld, at, world};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn parts_that_are_not_acted_on_are_warned_of() {
    let w = world().await;
    w.app().await;
    let service = json!({ "internal_port": 80, "autostop": true, "autostart": false });
    let config = json!({
        "image": "nginx", "services": [service], "restart": { "policy": "no", "typo": 1 },
        "dns": { "skip_registration": true, "dns_forward_rules": [{ "basename": "x" }] },
    });
    let body = json!({ "config": config, "lsvd": true });
    let (warnings, machine) = warned(&w, Method::POST, "/v1/apps/web/machines?typo=1", body).await;
    assert_eq!(
        warnings.join("\n"),
        "query typo: this call has no such parameter; it is not acted on\n\
         config.dns.dns_forward_rules: is not known to this version and is not acted on\n\
         config.restart.typo: is not known to this version and is not acted on\n\
         lsvd: is not known to this version and is not acted on\n\
         config.dns.skip_registration: machines have no `.internal` names yet, with or without \
         it\n\
         config.services[0]: autostop stops the machine when it is idle, and with autostart false \
         nothing starts it again"
    );
    assert_eq!(machine["config"]["services"][0]["protocol"], "tcp", "it is filled in");
    assert_eq!(machine["config"]["restart"]["typo"], 1, "it is kept");
}

/// The warnings and the body of a successful answer.
async fn warned(w: &TestWorld, method: Method, path: &str, body: Value) -> (Vec<String>, Value) {
    let answer = w.request(method, path).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    let headers = answer.headers().get_all("updraft-warning").iter();
    let warnings = headers.map(|text| text.to_str().unwrap().to_owned()).collect();
    (warnings, answer.json().await.unwrap())
}

#[tokio::test]
async fn every_call_warns_of_what_it_does_not_act_on() {
    let w = world().await;
    let unknown = "is not known to this version and is not acted on";
    let app = json!({ "name": "web", "enable_subdomains": true });
    let (warnings, _) = warned(&w, Method::POST, "/v1/apps", app).await;
    assert_eq!(warnings, [format!("enable_subdomains: {unknown}")]);
    let machine = w.machine(json!({ "name": "a" })).await;
    let path = at(&machine, "");
    let patch =
        json!({ "config": { "env": { "A": "b" }, "stop_config": { "typo": 1 } }, "lsvd": 1 });
    let (warnings, _) = warned(&w, Method::PATCH, &path, patch).await;
    let expected = ["lsvd", "config.stop_config.typo"].map(|field| format!("{field}: {unknown}"));
    assert_eq!(warnings, expected);
    let update = json!({ "config": { "image": "nginx" }, "name": "b", "region": "there" });
    let (warnings, _) = warned(&w, Method::POST, &path, update).await;
    assert_eq!(
        warnings,
        [
            "name: the machine keeps \"a\"; an update does not make it \"b\"",
            "region: the machine keeps \"local\"; an update does not make it \"there\"",
        ]
    );
    let batch = json!({ "machines": [
        { "config": { "image": "nginx" }, "typo": 1 },
        { "config": { "image": "nginx", "files": [{ "guest_path": "/a", "raw_value": "", "typo": 1 }] } },
    ] });
    let (_, answer) = warned(&w, Method::POST, "/v1/apps/web/machines/batch", batch).await;
    assert_eq!(answer["results"][0]["warnings"], json!([format!("typo: {unknown}")]));
    let of_file = json!([format!("config.files[0].typo: {unknown}")]);
    assert_eq!(answer["results"][1]["warnings"], of_file);
    let stop = json!({ "timeout": "1s", "typo": "x", "zero": 0 });
    let (warnings, _) = warned(&w, Method::POST, &at(&machine, "/stop"), stop).await;
    assert_eq!(warnings, [format!("typo: {unknown}")]);
    let (warnings, _) =
        warned(&w, Method::GET, "/v1/apps/web/machines?metadata.a=b&sumary=1", Value::Null).await;
    assert_eq!(warnings, ["query sumary: this call has no such parameter; it is not acted on"]);
}
