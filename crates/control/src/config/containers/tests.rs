//! The rules of containers, with the exact words that name the field.

use crate::config::{normalize, violations, warnings};
use serde_json::{Value, json};
use wire::machines::MachineConfig;

fn parsed(config: Value) -> MachineConfig {
    let mut config = serde_json::from_value(config).unwrap();
    normalize(&mut config);
    config
}

/// The violations of a config, one per line.
fn violations_of(config: Value) -> String {
    let all = violations(&parsed(config));
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A config with these containers, each with an image.
fn of(containers: Value) -> Value {
    let mut containers = containers;
    for container in containers.as_array_mut().unwrap() {
        container.as_object_mut().unwrap().entry("image").or_insert_with(|| "nginx".into());
    }
    json!({ "containers": containers })
}

#[test]
fn containers_that_are_allowed() {
    for config in [
        of(json!([{ "name": "web" }])),
        // The machine's image is that of containers without one.
        json!({ "image": "nginx", "containers": [{ "name": "a" }, { "name": "b", "image": "" }] }),
        // Zero values, as clients in Go write them.
        of(json!([{ "name": "a", "user": "", "restart": { "policy": "" }, "env_from": null,
                    "stop": { "signal": "", "timeout": "" }, "mounts": [], "secrets": [],
                    "depends_on": [], "healthchecks": null }])),
        of(json!([
            { "name": "db", "restart": { "policy": "always" }, "stop": { "signal": "SIGTERM", "timeout": "10s" },
              "files": [{ "guest_path": "/x", "raw_value": "aGk=" }],
              "healthchecks": [{ "name": "up", "kind": "liveness", "unhealthy": "stop", "interval": 10,
                                 "tcp": { "port": 5432 } }] },
            { "name": "setup", "depends_on": [{ "name": "db", "condition": "healthy" }] },
            { "name": "web", "depends_on": [{ "name": "setup", "condition": "exited_successfully" },
                                            { "name": "db", "condition": "" }],
              "env_from": [{ "env_var": "ME", "field_ref": "private_ip" }],
              "healthchecks": [{ "http": { "port": 80, "path": "/up?x=1", "scheme": "http",
                                           "headers": [{ "name": "Host", "values": ["a"] }] } },
                               { "exec": { "command": ["true"] } }] },
        ])),
        json!({ "volumes": [{ "name": "v", "temp_dir": { "storage_type": "memory", "size_mb": 8 } },
                            { "name": "d", "temp_dir": { "storage_type": "disk" } }],
                "containers": [{ "name": "a", "image": "nginx",
                                 "mounts": [{ "name": "v", "path": "/v" }, { "name": "d", "path": "/d/" }] }] }),
    ] {
        assert_eq!(violations_of(config.clone()), "", "{config}");
    }
}

#[test]
fn containers_that_are_refused() {
    let many = |count: usize| {
        let names = (0..count).map(|n| json!({ "name": format!("c{n}"), "image": "nginx" }));
        json!({ "containers": names.collect::<Vec<_>>() })
    };
    let checks = |check: Value| of(json!([{ "name": "a", "healthchecks": [check] }]));
    let http = |more: Value| {
        let mut http = json!({ "port": 80 });
        http.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        checks(json!({ "http": http }))
    };
    let at = "config.containers[0]";
    for (config, why) in [
        (many(17), "config.containers: must have at most 16 entries, not 17".to_owned()),
        (of(json!([{}])), format!("{at}.name: is required")),
        (
            of(json!([{ "name": "../x" }])),
            format!(
                "{at}.name: must have 1 to 63 letters, digits, hyphens, underscores and dots, and begin with a letter or digit, not \"../x\""
            ),
        ),
        (
            of(json!([{ "name": "a" }, { "name": "a" }])),
            "config.containers[1].name: is the name of another container".into(),
        ),
        (
            json!({ "containers": [{ "name": "a" }] }),
            format!("{at}.image: is required where there is no config.image"),
        ),
        (
            json!({ "containers": [{ "name": "a", "image": "a b" }] }),
            format!("{at}.image: must be an image reference, not \"a b\""),
        ),
        (
            json!({ "containers": [{ "name": "a", "image": "x" }], "processes": [{}] }),
            "config.processes: cannot be given together with config.containers".into(),
        ),
        (
            of(json!([{ "name": "a", "restart": { "policy": "often" } }])),
            format!("{at}.restart.policy: must be no, on-failure or always, not \"often\""),
        ),
        (
            of(json!([{ "name": "a", "stop": { "signal": "SIGNOPE", "timeout": "400s" } }])),
            format!(
                "{at}.stop.signal: must be the name of a signal, not \"SIGNOPE\"\n{at}.stop.timeout: must be at most 300s"
            ),
        ),
        (
            of(json!([{ "name": "a", "files": [{ "guest_path": "x", "raw_value": "" }] }])),
            format!("{at}.files[0].guest_path: must be the absolute path of a file"),
        ),
        (
            of(json!([{ "name": "a", "env": { "": "1" } }])),
            format!("{at}.env.: is not a name for an environment variable"),
        ),
        (
            of(json!([{ "name": "a", "mounts": [{ "name": "v", "path": "/a/../b" }] }])),
            format!(
                "{at}.mounts[0].name: must be the name of one of config.volumes, not \"v\"\n{at}.mounts[0].path: must be an absolute path other than /, without .."
            ),
        ),
        (
            of(json!([{ "name": "a", "depends_on": [{ "name": "b" }] }])),
            format!("{at}.depends_on[0].name: must be the name of a container, not \"b\""),
        ),
        (
            of(
                json!([{ "name": "a", "depends_on": [{ "name": "b" }, { "name": "b" }] }, { "name": "b" }]),
            ),
            format!("{at}.depends_on[1].name: is named twice"),
        ),
        (
            of(
                json!([{ "name": "a", "depends_on": [{ "name": "b", "condition": "up" }] }, { "name": "b" }]),
            ),
            format!(
                "{at}.depends_on[0].condition: must be one of started, healthy, exited_successfully, not \"up\""
            ),
        ),
        (
            of(
                json!([{ "name": "a", "depends_on": [{ "name": "b", "condition": "healthy" }] }, { "name": "b" }]),
            ),
            format!("{at}.depends_on[0].condition: cannot be met: container b has no healthchecks"),
        ),
        (
            of(
                json!([{ "name": "a", "depends_on": [{ "name": "b", "condition": "exited_successfully" }] },
                      { "name": "b", "restart": { "policy": "always" } }]),
            ),
            format!("{at}.depends_on[0].condition: cannot be met: container b is restarted always"),
        ),
        (
            of(json!([{ "name": "a", "depends_on": [{ "name": "a" }] }])),
            format!("{at}.depends_on: must not be a cycle: a -> a"),
        ),
        (
            of(json!([{ "name": "x" }, { "name": "a", "depends_on": [{ "name": "b" }] },
                      { "name": "b", "depends_on": [{ "name": "x" }, { "name": "c" }] },
                      { "name": "c", "depends_on": [{ "name": "a" }] }])),
            "config.containers[1].depends_on: must not be a cycle: a -> b -> c -> a".into(),
        ),
        (
            checks(json!({})),
            format!("{at}.healthchecks[0]: needs exactly one of http, tcp and exec"),
        ),
        (
            checks(json!({ "tcp": { "port": 1 }, "exec": { "command": ["a"] } })),
            format!("{at}.healthchecks[0]: needs exactly one of http, tcp and exec"),
        ),
        (
            checks(json!({ "tcp": {} })),
            format!("{at}.healthchecks[0].tcp.port: must be from 1 to 65535"),
        ),
        (checks(json!({ "exec": {} })), format!("{at}.healthchecks[0].exec.command: is required")),
        (
            checks(
                json!({ "tcp": { "port": 1 }, "kind": "vague", "unhealthy": "cry", "interval": 3601,
                           "failure_threshold": 1001 }),
            ),
            format!(
                "{at}.healthchecks[0].kind: must be one of readiness, liveness, not \"vague\"\n\
                     {at}.healthchecks[0].unhealthy: must be one of stop, not \"cry\"\n\
                     {at}.healthchecks[0].interval: must be at most 3600 seconds\n\
                     {at}.healthchecks[0].failure_threshold: must be at most 1000"
            ),
        ),
        (
            http(json!({ "path": "up" })),
            format!("{at}.healthchecks[0].http.path: must begin with / and have no spaces"),
        ),
        (
            http(json!({ "path": "/ HTTP/1.1\r\nX: y" })),
            format!("{at}.healthchecks[0].http.path: must begin with / and have no spaces"),
        ),
        (
            http(json!({ "method": "G T" })),
            format!("{at}.healthchecks[0].http.method: must be a method, not \"G T\""),
        ),
        (
            http(json!({ "headers": [{ "name": "A", "values": ["1\r\nB: 2"] }] })),
            format!(
                "{at}.healthchecks[0].http.headers[0]: must be a name and values of one line each"
            ),
        ),
        (
            http(json!({ "scheme": "https" })),
            format!(
                "{at}.healthchecks[0].http.scheme: HTTPS checks of containers are not supported yet"
            ),
        ),
        (
            json!({ "image": "x", "volumes": [{ "name": "v" }] }),
            "config.volumes[0]: needs exactly one of temp_dir and image".into(),
        ),
        (
            json!({ "image": "x", "volumes": [{ "name": "v", "image": "data" }] }),
            "config.volumes[0].image: volumes with the files of an image are not supported yet"
                .into(),
        ),
        (
            json!({ "image": "x", "volumes": [{ "name": "v", "temp_dir": { "storage_type": "memory" } }] }),
            "config.volumes[0].temp_dir.size_mb: is required for memory".into(),
        ),
    ] {
        assert_eq!(violations_of(config.clone()), why, "{config}");
    }
}

#[test]
fn what_containers_do_not_use_is_warned_of() {
    let config = parsed(json!({
        "image": "x",
        "init": { "cmd": ["a"], "tty": true },
        "files": [{ "guest_path": "/x", "raw_value": "" }],
        "volumes": [{ "name": "v", "temp_dir": { "storage_type": "disk", "size_mb": 5 } }],
        "containers": [{ "name": "a", "env": { "FLY_REGION": "x" },
                         "healthchecks": [{ "http": { "port": 80 } }] }],
    }));
    let want = [
        "config.volumes[0].temp_dir.size_mb: a directory on disk has no limit of its own",
        "config.init.cmd: containers do not use it",
        "config.init.tty: containers do not use it",
        "config.files: written into the machine's own root, not into containers",
        "config.containers[0].env.FLY_REGION: the platform sets it; the value is not used",
    ];
    assert_eq!(warnings(&config), want);
}
