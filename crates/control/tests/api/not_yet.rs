//! The facts that are "not yet": each such call and field of a config is answered as its fact describes.

use crate::compatibility::{Fact, facts};
use crate::world::{TestWorld, at, world};
use reqwest::Method;
use serde_json::{Value, json};

/// The parts of a path that are names.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| match part {
        "{app}" => "web",
        "{org}" => "personal",
        part if part.starts_with('{') => "x1",
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn calls_that_are_not_built_yet_are_refused_by_name() {
    let w = world().await;
    w.app().await;
    let facts = facts();
    let not_yet = facts.call.iter().filter(|fact| fact.state == "not yet");
    let mut calls = 0;
    for Fact { name, note, .. } in not_yet {
        let Some(why) = note.strip_prefix("501: ") else { continue };
        let (method, path) = name.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        let (code, answer) = w.call(method, &filled(path), Value::Null).await;
        assert_eq!((code, answer["error"].as_str()), (501, why.strip_suffix('.')), "{name}");
        assert!(answer["hint"].is_string(), "{name}: {answer}");
        calls += 1;
    }
    assert!(calls > 20, "{calls}");
}

/// A config with a value for the field, beside what every config has.
fn sample(field: &str) -> Option<Value> {
    let http_options = |options: Value| {
        let port = json!({ "port": 80, "handlers": ["http"], "http_options": options });
        json!({ "services": [{ "internal_port": 80, "ports": [port] }] })
    };
    let port = |more: &str, value: Value| {
        let port = json!({ "port": 80, "handlers": ["http"], more: value });
        json!({ "services": [{ "internal_port": 80, "ports": [port] }] })
    };
    let mount = |more: &str, value: Value| json!({ "mounts": [{ "volume": "vol_1", "path": "/data", more: value }] });
    let container = |more: &str, value: Value| json!({ "containers": [{ "name": "web", "image": "nginx", more: value }] });
    let fixed = |more: &str, value: Value| {
        let fixed = json!({ "guest_path": "/public", "url_prefix": "/", more: value });
        json!({ "statics": [fixed] })
    };
    let image_file = json!([{ "guest_path": "/a", "image_config": "web" }]);
    Some(match field {
        "guest.gpu_kind" => json!({ "guest": { "gpu_kind": "a10" } }),
        "guest.gpus" => json!({ "guest": { "gpus": 1 } }),
        "guest.max_memory_mb" => json!({ "guest": { "max_memory_mb": 512 } }),
        "guest.host_dedication_id" => json!({ "guest": { "host_dedication_id": "a" } }),
        "guest.required_host_features" => json!({ "guest": { "required_host_features": ["a"] } }),
        "spot" => json!({ "spot": { "policy": "stop" } }),
        "rootfs.fs_size_gb" => json!({ "rootfs": { "fs_size_gb": 4 } }),
        "services[].ports[].http_options.response.headers" => {
            http_options(json!({ "response": { "headers": { "A": "b" } } }))
        }
        "services[].ports[].http_options.h2_backend" => http_options(json!({ "h2_backend": true })),
        "services[].ports[].http_options.headers_read_timeout" => {
            http_options(json!({ "headers_read_timeout": 5 }))
        }
        "services[].ports[].http_options.replay_cache" => {
            http_options(json!({ "replay_cache": [{ "path_prefix": "/" }] }))
        }
        "services[].ports[].tls_options.versions" => {
            port("tls_options", json!({ "versions": ["TLSv1.3"] }))
        }
        "services[].ports[].tls_options.default_self_signed" => {
            port("tls_options", json!({ "default_self_signed": true }))
        }
        "services[].ports[].proxy_proto_options"
        | "services[].ports[].proxy_proto_options.version" => {
            port("proxy_proto_options", json!({ "version": "v2" }))
        }
        "services[].force_instance_key" => {
            json!({ "services": [{ "internal_port": 80, "force_instance_key": "a" }] })
        }
        "services[].force_instance_description" => {
            json!({ "services": [{ "internal_port": 80, "force_instance_description": "a" }] })
        }
        "files[].image_config" => json!({ "files": image_file }),
        "containers[].files[].image_config" => container("files", image_file),
        "containers[].healthchecks[].http.tls_server_name" => {
            let http = json!({ "port": 80, "path": "/", "scheme": "http", "tls_server_name": "a" });
            container("healthchecks", json!([{ "name": "h", "http": http }]))
        }
        "restart.gpu_bid_price" => json!({ "restart": { "policy": "no", "gpu_bid_price": 0.5 } }),
        "dns.skip_registration" => json!({ "dns": { "skip_registration": true } }),
        "dns.dns_forward_rules" => {
            json!({ "dns": { "dns_forward_rules": [{ "basename": "a.b", "addr": "192.0.2.1" }] } })
        }
        "mounts[].name" => mount("name", json!("data")),
        "mounts[].encrypted" => mount("encrypted", json!(true)),
        "mounts[].size_gb" => mount("size_gb", json!(1)),
        "mounts[].size_gb_limit" => mount("size_gb_limit", json!(9)),
        "mounts[].extend_threshold_percent" => mount("extend_threshold_percent", json!(80)),
        "mounts[].add_size_gb" => mount("add_size_gb", json!(1)),
        "mounts[].add_size_percent" => mount("add_size_percent", json!(10)),
        "mounts[].min_add_size_gb" => mount("min_add_size_gb", json!(1)),
        "statics[].url_prefix" => fixed("url_prefix", json!("/static")),
        "statics[].tigris_bucket" => fixed("tigris_bucket", json!("a")),
        "statics[].index_document" => fixed("index_document", json!("index.html")),
        _ => return None,
    })
}

/// Creates a machine; status, warnings and JSON of the answer.
async fn create(w: &TestWorld, config: &Value) -> (u16, String, Value) {
    let body = json!({ "config": config, "skip_launch": true });
    let request = w.request(Method::POST, "/v1/apps/web/machines").json(&body);
    let answer = request.send().await.unwrap();
    let warnings = answer.headers().get_all("updraft-warning").iter();
    let warnings: Vec<&str> = warnings.map(|value| value.to_str().unwrap()).collect();
    let (code, warnings) = (answer.status().as_u16(), warnings.join(", "));
    (code, warnings, answer.json().await.unwrap())
}

#[tokio::test]
async fn fields_that_are_not_acted_on_yet_are_kept_or_refused_as_their_facts_are() {
    let w = world().await;
    w.app().await;
    let facts = facts();
    let mut fields = 0;
    for fact in facts.field.iter().filter(|fact| fact.state == "not yet") {
        let Some(mut config) = sample(&fact.name) else {
            let named = !fact.test.is_empty() && !fact.test.contains("as_their_facts_are");
            assert!(named, "{}: it has neither a sample here nor a test of its own", fact.name);
            continue;
        };
        config["image"] = json!("nginx");
        let (code, warnings, answer) = create(&w, &config).await;
        fields += 1;
        let why = format!("{}: {code} {warnings} {answer}", fact.name);
        if let Some(refusal) = fact.note.strip_prefix("422: ") {
            assert_eq!(code, 422, "{why}");
            let refusal = refusal.trim_end_matches('.');
            assert!(answer["error"].as_str().unwrap().contains(refusal), "{why}");
            continue;
        }
        assert_eq!(code, 200, "{why}");
        let last = fact.name.rsplit('.').next().unwrap().trim_end_matches("[]");
        let parents: Vec<&str> =
            fact.name.split('.').map(|part| part.trim_end_matches("[]")).collect();
        // A warning names the field, or the object that is not acted on as a whole.
        let warned = parents.iter().any(|part| warnings.contains(part));
        assert_eq!(warned, fact.note.contains("warning"), "{why}");
        let (_, read) = w.get(&at(&answer, "")).await;
        assert!(read["config"].to_string().contains(&format!("\"{last}\"")), "{why}");
    }
    assert!(fields > 25, "{fields}");
}
