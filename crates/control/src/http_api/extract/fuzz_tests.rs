//! Fuzz targets: bodies and queries as clients send them.

use super::body::parse_value;
use super::query::Params;
use crate::config::{violations, warnings};
use axum::http::Uri;
use fuzzing::fuzz;
use serde_json::Value;
use wire::machines::{LaunchMachine, MachineConfig};

const BODIES: [&str; 4] = [
    r#"{"name":"a","region":"local","lease_ttl":30,"skip_launch":true,"config":{"image":"nginx:1",
        "env":{"A":"1"},"metadata":{"fly_process_group":"web"},"guest":{"cpu_kind":"shared","cpus":2,
        "memory_mb":512,"kernel_args":["quiet"],"persist_rootfs":"always"},"size":"shared-cpu-1x",
        "init":{"cmd":["a"],"entrypoint":["b"],"exec":["c"],"swap_size_mb":64,"tty":true}}}"#,
    r#"{"config":{"image":"nginx","services":[{"protocol":"tcp","internal_port":80,"autostop":"stop",
        "autostart":true,"min_machines_running":1,"concurrency":{"type":"requests","hard_limit":25,
        "soft_limit":20},"ports":[{"port":80,"handlers":["http"],"force_https":true},
        {"start_port":5000,"end_port":5010,"handlers":["tls"]}],"checks":[{"type":"http",
        "interval":"10s","timeout":2000000000,"grace_period":"5s","method":"get","path":"/",
        "headers":[{"name":"A","values":["b"]}]}]}],"checks":{"up":{"type":"script",
        "command":["true"],"kind":"liveness","failure_threshold":3,"interval":"1m"}}}}"#,
    r#"{"config":{"image":"nginx","restart":{"policy":"on-failure","max_retries":3},"schedule":"0 3 * * *",
        "schedule_options":{"timezone":"UTC","overlap":"skip","misfire":"run"},"auto_destroy":true,
        "stop_config":{"signal":"SIGINT","timeout":"10s"},"dns":{"nameservers":["192.0.2.1"],
        "searches":["a.b"],"options":[{"name":"ndots","value":"2"}]},"files":[{"guest_path":"/a",
        "raw_value":"aGk=","mode":420},{"guest_path":"/b","secret_name":"S"}],
        "metrics":{"port":9091,"path":"/metrics"},"standbys":["0123456789abcd"],
        "rootfs":{"persist":"never","size_gb":1},"mounts":[]}}"#,
    r#"{"config":{"processes":[{"cmd":["a"],"env_from":[{"env_var":"ID","field_ref":"id"}],
        "secrets":[{"env_var":"S","name":"T"}],"user":"web"}],"containers":[{"name":"web",
        "image":"nginx","cmd":["a"],"depends_on":[{"name":"db","condition":"healthy"}],
        "healthchecks":[{"name":"h","tcp":{"port":80},"interval":5}],"restart":{"policy":"always"},
        "stop":{"signal":"SIGTERM","timeout":5}},{"name":"db","image":"pg"}]}}"#,
];

/// No body panics; what is accepted is read as the same when a client sends it back.
#[test]
fn bodies_of_creates() {
    fuzz!(8000, BODIES, |bytes: &[u8]| {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
        let Ok(launch) = parse_value::<LaunchMachine>(value) else { return };
        let Some(config) = &launch.config else { return };
        let (violated, warned) = (violations(config), warnings(config));
        let text = serde_json::to_string(config).unwrap();
        let again: MachineConfig = serde_json::from_str(&text).unwrap();
        assert_eq!(config, &again, "{text}");
        let counts = (violations(&again).len(), warnings(&again).len());
        assert_eq!(counts, (violated.len(), warned.len()), "{text}");
    });
}

#[test]
fn queries() {
    let seeds = [
        "/v1/apps/web/machines?state=started,stopped&metadata.a=b&include_deleted=1&region=local",
        "/wait?state=started&state=stopped&timeout=1m30s&from_event_id=01KB7ZZZZZZZZZZZZZZZZZZZZZ",
        "/?limit=18446744073709551615&cursor=%7B%22a%22%7D&summary=true",
    ];
    fuzz!(8000, seeds, |bytes: &[u8]| {
        let Ok(uri) = Uri::try_from(bytes) else { return };
        let Ok(params) = Params::of(&uri) else { return };
        let _ = (params.flag("summary"), params.number::<u64>("limit"), params.duration("timeout"));
        let states = params.list("state");
        assert!(states.iter().all(|state| !state.is_empty() && !state.contains(',')));
        assert!(params.prefixed("metadata.").count() <= uri.query().unwrap_or_default().len());
    });
}
