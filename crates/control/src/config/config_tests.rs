//! Each rule of a config with the exact words that name the field.

use super::*;
use serde_json::{Value, json};

/// The violations of a config, one per line.
fn violations_of(mut config: Value) -> String {
    if let Value::Object(map) = &mut config {
        map.entry("image").or_insert_with(|| "nginx".into());
    }
    let mut config: MachineConfig = serde_json::from_value(config).unwrap();
    normalize(&mut config);
    violations(&config).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn service(more: Value) -> Value {
    let mut service = json!({ "protocol": "tcp", "internal_port": 8080 });
    let (Value::Object(to), Value::Object(from)) = (&mut service, more) else { unreachable!() };
    to.extend(from);
    json!({ "services": [service] })
}

#[test]
fn configs_that_are_allowed() {
    for config in [
        json!({}),
        json!({ "size": "performance-2x" }),
        json!({ "guest": {} }),
        json!({ "guest": { "cpu_kind": "shared", "cpus": 2, "memory_mb": 512, "gpus": 0, "gpu_kind": "" } }),
        json!({ "env": { "A": "b", "FLYING": "x" }, "metadata": { "fly_process_group": "app" } }),
        json!({ "init": { "exec": null, "cmd": ["sleep", "inf"], "swap_size_mb": 512 } }),
        json!({ "init": { "on_resume": ["/bin/sh", "-c", "date"] } }),
        json!({ "processes": [{ "cmd": ["sleep", "1"], "user": "web", "ignore_app_secrets": true }] }),
        http_options(json!({ "idle_timeout": 86_400 })),
        json!({ "mounts": [], "containers": [], "processes": null }),
        json!({ "processes": [{ "cmd": ["a"], "name": "web" },
                              { "env_from": [{ "env_var": "ID", "field_ref": "id" },
                                             { "env_var": "ROLE", "field_ref": "metadata.role" }] }] }),
        service(
            json!({ "ports": [{ "port": 443, "handlers": ["tls", "http"], "force_https": true },
                                  { "start_port": 1000, "end_port": 2000 }] }),
        ),
        service(json!({ "autostop": "stop", "autostart": true, "force_instance_key": null })),
        service(json!({ "autostop": "suspend", "server_timing": true })),
        // There is no limit of 2 GB.
        json!({ "size": "performance-16x",
                "services": [{ "protocol": "tcp", "internal_port": 80, "autostop": "suspend" }] }),
        service(
            json!({ "concurrency": { "type": "requests", "soft_limit": 20, "hard_limit": 20 } }),
        ),
        json!({ "checks": { "alive": { "type": "http", "port": 80, "interval": 15_000_000_000u64,
                                       "timeout": "2s", "path": "/", "kind": "readiness" } } }),
        json!({ "files": [{ "guest_path": "/etc/x", "raw_value": "aGk=", "mode": 0o644 }] }),
        json!({ "stop_config": { "signal": "SIGTERM", "timeout": "5m" } }),
        json!({ "restart": { "policy": "always" }, "schedule": "daily" }),
        json!({ "schedule": "*/5 9-17 * * MON-FRI",
                "schedule_options": { "timezone": "Europe/Berlin", "overlap": "queue", "misfire": "skip" } }),
        json!({ "rootfs": { "persist": "restart", "size_gb": 0 }, "standbys": ["x"] }),
        json!({ "dns": { "nameservers": ["fdaa::3", "1.1.1.1"], "options": [{ "name": "ndots", "value": "2" }] } }),
        json!({ "something": { "new": [1, 2] } }),
        json!({ "env": { "FLY_PROCESS_GROUP": "app", "FLY_API_TOKEN": "x", "FLY_REGION": "y" } }),
        // Zero values, as clients in Go write them for whatever was not set.
        json!({ "size": "", "schedule": "", "mounts": [], "metadata": null, "env": null,
                "guest": { "cpu_kind": "", "cpus": 0, "memory_mb": 0, "host_dedication_id": "" },
                "restart": { "policy": "", "max_retries": 0 }, "containers": null,
                "stop_config": { "signal": "", "timeout": "" }, "cache_drive": { "size_mb": 0 },
                "rootfs": { "persist": "", "size_gb": 0 }, "required_host_features": [] }),
        json!({ "size": "shared-cpu-1x", "guest": { "cpu_kind": "", "cpus": 0, "memory_mb": 0 } }),
        service(json!({ "concurrency": { "type": "", "hard_limit": 0, "soft_limit": 0 },
                        "ports": [{ "port": 80, "start_port": 0, "end_port": 0 }],
                        "checks": [{ "type": "tcp", "port": 0, "path": "", "interval": "" }] })),
        json!({ "services": [{ "internal_port": 80 }] }),
        // A service's check has the service's port, and a script has none.
        json!({ "services": [{ "internal_port": 80, "checks": [{ "type": "tcp" }] }],
                "checks": { "a": { "type": "http" }, "b": { "type": "script", "command": ["true"] } } }),
    ] {
        assert_eq!(violations_of(config.clone()), "", "{config}");
    }
}

#[test]
fn configs_that_are_refused() {
    for (config, why) in [
        (json!({ "image": "" }), "config.image: is required"),
        (json!({ "image": "a b" }), "config.image: must be an image reference, not \"a b\""),
        (
            json!({ "env": { "A=B": "1" } }),
            "config.env.A=B: is not a name for an environment variable",
        ),
        (json!({ "env": { "A": "\u{0}" } }), "config.env.A: must not contain a NUL byte"),
        (
            json!({ "metadata": { "": "1" } }),
            "config.metadata.: a key has 1 to 255 bytes and no control characters",
        ),
        (
            json!({ "size": "shared-cpu-1x", "guest": { "cpus": 1 } }),
            "config.size: cannot be given together with config.guest",
        ),
        (
            json!({ "guest": { "cpus": 2, "memory_mb": 256 } }),
            "config.guest.memory_mb: must be a multiple of 256 from 512 to 4096 for 2 shared CPUs, not 256",
        ),
        (
            json!({ "guest": { "cpu_kind": "fast" } }),
            "config.guest.cpu_kind: must be shared or performance, not \"fast\"",
        ),
        (
            json!({ "guest": { "cpus": 5 } }),
            "config.guest.cpus: must be one of 1, 2, 4, 6, 8, 16 for shared CPUs, not 5",
        ),
        (json!({ "guest": { "gpus": 1 } }), "config.guest.gpus: GPUs are not supported"),
        (
            json!({ "guest": { "persist_rootfs": "maybe" } }),
            "config.guest.persist_rootfs: must be one of never, restart, always, not \"maybe\"",
        ),
        (
            json!({ "guest": { "kernel_args": ["a\u{0}"] } }),
            "config.guest.kernel_args[0]: must not contain a NUL byte",
        ),
        (
            json!({ "init": { "cmd": ["a", "\u{0}"] } }),
            "config.init.cmd[1]: must not contain a NUL byte",
        ),
        (
            json!({ "init": { "on_resume": ["a", "\u{0}"] } }),
            "config.init.on_resume[1]: must not contain a NUL byte",
        ),
        (
            json!({ "init": { "on_resume": ["a", ""] } }),
            "config.init.on_resume: must be a program and its arguments, none empty",
        ),
        (
            json!({ "init": { "on_resume": [] } }),
            "config.init.on_resume: must be a program and its arguments, none empty",
        ),
        (
            json!({ "init": { "swap_size_mb": 1_000_000 } }),
            "config.init.swap_size_mb: must be at most 65536",
        ),
        (
            json!({ "mounts": [{ "volume": "vol_1", "path": "/" }] }),
            "config.mounts[0].path: must be an absolute path other than /, without ..",
        ),
        (
            json!({ "mounts": [{ "volume": "vol_1", "path": "data" }] }),
            "config.mounts[0].path: must be an absolute path other than /, without ..",
        ),
        (json!({ "mounts": [{ "path": "/data" }] }), "config.mounts[0].volume: is required"),
        (
            json!({ "mounts": [{ "volume": "a", "path": "/a" }, { "volume": "a", "path": "/a/" }] }),
            "config.mounts[1].path: another volume has this path\nconfig.mounts[1].volume: the machine has this volume already",
        ),
        (json!({ "services": [{}] }), "config.services[0].internal_port: is required"),
        (
            service(json!({ "protocol": "sctp" })),
            "config.services[0].protocol: must be one of tcp, udp, not \"sctp\"",
        ),
        (
            service(json!({ "internal_port": 0 })),
            "config.services[0].internal_port: must be from 1 to 65535",
        ),
        (service(json!({ "ports": [{}] })), "config.services[0].ports[0].port: is required"),
        (
            service(json!({ "ports": [{ "port": 0 }] })),
            "config.services[0].ports[0].port: must be from 1 to 65535",
        ),
        (
            service(json!({ "ports": [{ "port": 1, "start_port": 2, "end_port": 3 }] })),
            "config.services[0].ports[0].port: give either port, or start_port and end_port",
        ),
        (
            service(json!({ "ports": [{ "start_port": 9, "end_port": 3 }] })),
            "config.services[0].ports[0].end_port: must not be below start_port, which is at least 1",
        ),
        (
            service(json!({ "ports": [{ "port": 1, "handlers": ["quic"] }] })),
            "config.services[0].ports[0].handlers: must be of http, tls, pg_tls and proxy_proto, not \"quic\"",
        ),
        (
            service(json!({ "ports": [{ "port": 1, "handlers": ["tls"], "force_https": true }] })),
            "config.services[0].ports[0].force_https: needs the handler http",
        ),
        (
            service(json!({ "concurrency": { "type": "users" } })),
            "config.services[0].concurrency.type: must be one of connections, requests, not \"users\"",
        ),
        (
            service(json!({ "concurrency": { "soft_limit": 9, "hard_limit": 3 } })),
            "config.services[0].concurrency.hard_limit: must be at least the soft_limit of 9, not 3",
        ),
        (
            json!({ "guest": { "host_dedication_id": "abc" } }),
            "config.guest.host_dedication_id: dedicated hosts are not supported yet",
        ),
        (
            json!({ "cache_drive": { "size_mb": 100 }, "required_host_features": ["x"] }),
            "config.cache_drive: cache drives are not supported yet\nconfig.required_host_features: features of hosts are not supported yet",
        ),
        (
            service(json!({ "checks": [{ "type": "ping" }] })),
            "config.services[0].checks[0].type: must be one of tcp, http, script, not \"ping\"",
        ),
        (
            json!({ "checks": { "a": { "type": "tcp" } } }),
            "config.checks.a.port: is required, from 1 to 65535, where there is no service to take it from",
        ),
        (
            json!({ "checks": { "a": { "port": 1, "type": "tcp", "interval": "soon" } } }),
            "config.checks.a.interval: must be a duration such as \"10s\", or nanoseconds, and not negative",
        ),
        (
            json!({ "checks": { "a": { "port": 1, "type": "http", "path": "x" } } }),
            "config.checks.a.path: must begin with /",
        ),
        (
            json!({ "checks": { "a": { "port": 1, "type": "tcp", "interval": "1s", "timeout": "61s",
                                       "grace_period": "2h", "kind": "deadness" } } }),
            "config.checks.a.kind: must be one of informational, readiness, liveness, not \"deadness\"\n\
             config.checks.a.interval: must be from 2s to 1h; a number counts nanoseconds\n\
             config.checks.a.timeout: must be above 0 and at most 60s\n\
             config.checks.a.grace_period: must be at most 1h",
        ),
        (
            json!({ "checks": { "a": { "type": "script" }, "b": { "port": 1, "type": "tcp", "command": ["x"] },
                                "c": { "type": "script", "command": ["", "x"] } } }),
            "config.checks.a.command: is required: the program of a script check and its arguments\n\
             config.checks.b.command: is only of checks of the type script\n\
             config.checks.c.command: must begin with a program, and have no NUL byte",
        ),
        (
            json!({ "checks": { "a": { "port": 1, "type": "http", "method": "brew", "path": "/a b",
                    "headers": [{ "name": "a:", "values": ["\r\n"] }], "failure_threshold": 101 } } }),
            "config.checks.a.method: must be one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, not \"BREW\"\n\
             config.checks.a.path: must have at most 2048 bytes, and be percent-encoded\n\
             config.checks.a.headers[0].name: must be the name of a header field, not \"a:\"\n\
             config.checks.a.headers[0].values: must be ASCII text without control characters\n\
             config.checks.a.failure_threshold: must be from 1 to 100",
        ),
        (
            service(json!({ "checks": vec![json!({ "type": "tcp" }); 33] })),
            "config.checks: a machine has at most 32 checks in all, not 33",
        ),
        (
            json!({ "files": [{ "guest_path": "x", "raw_value": "" }] }),
            "config.files[0].guest_path: must be the absolute path of a file",
        ),
        (
            json!({ "files": [{ "guest_path": "/x" }] }),
            "config.files[0]: needs exactly one of raw_value, secret_name and image_config",
        ),
        (
            json!({ "files": [{ "guest_path": "/x", "raw_value": "", "secret_name": "S" }] }),
            "config.files[0]: needs exactly one of raw_value, secret_name and image_config",
        ),
        (
            json!({ "files": [{ "guest_path": "/x", "raw_value": "%" }] }),
            "config.files[0].raw_value: must be base64",
        ),
        (
            json!({ "files": [{ "guest_path": "/x", "raw_value": "", "mode": 65_535 }] }),
            "config.files[0].mode: must be permission bits, at most 4095 (octal 7777)",
        ),
        (
            json!({ "stop_config": { "timeout": "400s" } }),
            "config.stop_config.timeout: must be at most 300s",
        ),
        (
            json!({ "stop_config": { "timeout": -1 } }),
            "config.stop_config.timeout: must be a duration such as \"10s\", or nanoseconds, and not negative",
        ),
        (
            json!({ "stop_config": { "signal": "SIGNOPE" } }),
            "config.stop_config.signal: must be the name of a signal, not \"SIGNOPE\"",
        ),
        (
            json!({ "restart": { "policy": "sometimes" } }),
            "config.restart.policy: must be no, on-failure or always, not \"sometimes\"",
        ),
        (
            json!({ "metrics": { "path": "/m" } }),
            "config.metrics.port: is required, from 1 to 65535",
        ),
        (
            json!({ "metrics": { "port": 9, "path": "m" } }),
            "config.metrics.path: must begin with /, have at most 2048 bytes, and be percent-encoded",
        ),
        (
            json!({ "schedule": "yearly" }),
            "config.schedule: must be hourly, daily, weekly, monthly or a cron expression of five \
             fields (minute hour day month weekday), not \"yearly\"",
        ),
        (
            json!({ "schedule": "0 0 30 2 *", "schedule_options": { "overlap": "wait", "misfire": "x" } }),
            "config.schedule_options.overlap: must be one of skip, queue, replace, not \"wait\"\n\
             config.schedule_options.misfire: must be one of skip, run_once, not \"x\"\n\
             config.schedule: \"0 0 30 2 *\" never comes about",
        ),
        (
            json!({ "schedule": "0 9 * * *", "schedule_options": { "timezone": "Mars/Olympus" } }),
            "config.schedule_options.timezone: must be a time zone of the IANA database, such as \
             Europe/Berlin or UTC, not \"Mars/Olympus\"",
        ),
        (
            json!({ "rootfs": { "persist": "x" } }),
            "config.rootfs.persist: must be one of never, restart, always, not \"x\"",
        ),
        (json!({ "rootfs": { "size_gb": 5000 } }), "config.rootfs.size_gb: must be at most 1024"),
        (
            json!({ "dns": { "nameservers": ["x"] } }),
            "config.dns.nameservers[0]: must be an IP address, not \"x\"",
        ),
        (json!({ "dns": { "hostname": "a\nb" } }), "config.dns.hostname: must be a host name"),
        (json!({ "dns": { "searches": ["a b"] } }), "config.dns.searches[0]: must be a domain"),
        (
            json!({ "processes": vec![json!({}); 33] }),
            "config.processes: must have at most 32 entries, not 33",
        ),
        (
            json!({ "processes": [{ "name": "a\nb" }] }),
            "config.processes[0].name: must have at most 63 bytes and no control characters",
        ),
        (
            json!({ "processes": [{ "env_from": [{ "env_var": "A=", "field_ref": "host" }] }] }),
            "config.processes[0].env_from[0].env_var: is not a name for an environment variable\nconfig.processes[0].env_from[0].field_ref: must be one of id, version, app_name, private_ip, region, image, metadata.<key>, not \"host\"",
        ),
        (
            json!({ "processes": [{ "env": { "A=": "" }, "cmd": ["\0"] }] }),
            "config.processes[0].cmd[0]: must not contain a NUL byte\nconfig.processes[0].env.A=: is not a name for an environment variable",
        ),
        (
            http_options(json!({ "idle_timeout": 86_401 })),
            "config.services[0].ports[0].http_options.idle_timeout: must be seconds, from 0 to 86400 (a day)",
        ),
        (
            json!({ "statics": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10] }),
            "config.statics: must have at most 10 entries",
        ),
        (json!({ "statics": {} }), "config.statics: must be a list of {guest_path, url_prefix}"),
        (
            json!({ "statics": [1, { "guest_path": "a", "url_prefix": "/a", "index_document": 1 },
                                { "guest_path": "/a" }] }),
            "config.statics[0]: must be an object with guest_path and url_prefix\n\
             config.statics[1].guest_path: must begin with /, have at most 1024 bytes and no control characters\n\
             config.statics[1].index_document: must be a string\n\
             config.statics[2].url_prefix: is required",
        ),
        (
            json!({ "image": "a:1", "files": [{ "guest_path": "/x", "image_config": "b:1" },
                                              { "guest_path": "/y", "image_config": "a:1" }] }),
            "config.files[0].image_config: must be the image of the machine or of one of its \
             containers; the config of \"b:1\" is not supported yet",
        ),
    ] {
        assert_eq!(violations_of(config), why);
    }
}

#[test]
fn unknown_sizes_are_refused_with_the_known_ones() {
    let why = violations_of(json!({ "size": "huge" }));
    assert!(why.starts_with("config.size: must be one of shared-cpu-1x, "), "{why}");
    assert!(why.ends_with("performance-16x, not \"huge\""), "{why}");
}

#[test]
fn defaults_are_filled_in_and_nothing_else_changes() {
    for (config, completed) in [
        (
            json!({ "image": "a" }),
            json!({ "image": "a", "init": {}, "guest": { "cpu_kind": "shared", "cpus": 1, "memory_mb": 256 } }),
        ),
        (
            json!({ "image": "a", "size": "shared-cpu-2x" }),
            json!({ "image": "a", "init": {}, "guest": { "cpu_kind": "shared", "cpus": 2, "memory_mb": 512 } }),
        ),
        (
            json!({ "image": "a", "guest": { "cpu_kind": "performance", "x": 1 }, "new": { "y": [] } }),
            json!({ "image": "a", "init": {}, "new": { "y": [] },
                    "guest": { "cpu_kind": "performance", "cpus": 1, "memory_mb": 2048, "x": 1 } }),
        ),
    ] {
        let mut config: MachineConfig = serde_json::from_value(config).unwrap();
        complete(&mut config);
        assert_eq!(serde_json::to_value(config).unwrap(), completed);
    }
}

#[test]
fn zero_values_are_not_kept_and_one_meaning_is_filled_in() {
    let config = json!({ "image": "a", "size": "", "schedule": "",
        "checks": { "c": { "type": "tcp", "port": 0 } },
        "services": [{ "internal_port": 80, "protocol": "",
                       "concurrency": { "type": "", "hard_limit": 0, "soft_limit": 0 },
                       "ports": [{ "port": 80, "start_port": 0, "end_port": 0 }] },
                     { "internal_port": 81, "concurrency": { "hard_limit": 5, "soft_limit": 0 } }] });
    let mut config: MachineConfig = serde_json::from_value(config).unwrap();
    normalize(&mut config);
    let expected = json!({ "image": "a", "checks": { "c": { "type": "tcp", "port": 80 } },
        "services": [{ "internal_port": 80, "protocol": "tcp", "ports": [{ "port": 80 }] },
                     { "internal_port": 81, "protocol": "tcp", "concurrency": { "hard_limit": 5 } }] });
    assert_eq!(serde_json::to_value(config).unwrap(), expected);
}

fn http_options(options: Value) -> Value {
    let port = json!({ "port": 80, "handlers": ["http"], "http_options": options });
    service(json!({ "ports": [port] }))
}

fn warnings_of(config: Value) -> String {
    let mut config = config;
    config["image"] = "a".into();
    warnings(&serde_json::from_value(config).unwrap()).join("\n")
}

#[test]
fn a_machine_that_nothing_would_wake_is_warned_of() {
    let warned = |more| warnings_of(service(more)).contains("nothing starts it again");
    assert!(warned(json!({ "autostop": true, "autostart": false })));
    assert!(!warned(json!({ "autostop": false, "autostart": false })));
    assert!(!warned(json!({ "autostop": true })));
}

#[test]
fn each_part_that_is_not_acted_on_is_warned_of() {
    let http = |more: Value| {
        let mut port = json!({ "port": 80, "handlers": ["http"] });
        port.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        service(json!({ "ports": [port] }))
    };
    for (config, warning) in [
        (json!({}), ""),
        (http(json!({})), ""),
        (
            http(
                json!({ "http_options": { "idle_timeout": 5, "response": { "pristine": true } } }),
            ),
            "",
        ),
        (json!({ "env": { "FLY_PROCESS_GROUP": "app", "FLY_API_TOKEN": "x" } }), ""),
        (
            json!({ "env": { "FLY_REGION": "x" } }),
            "config.env.FLY_REGION: the platform sets it; the value is not used",
        ),
        (json!({ "schedule": "daily" }), ""),
        (
            json!({ "schedule_options": { "timezone": "UTC" } }),
            "config.schedule_options: is of no effect without a schedule",
        ),
        (
            json!({ "standbys": ["x"] }),
            "config.standbys: a standby is not started yet when its machine fails",
        ),
        (json!({ "checks": { "c": { "type": "tcp", "port": 1 } } }), ""),
        (json!({ "metrics": { "port": 1 } }), ""),
        (
            json!({ "dns": { "skip_registration": true } }),
            "config.dns.skip_registration: machines have no `.internal` names yet, with or without it",
        ),
        (
            json!({ "statics": [{ "guest_path": "/a", "url_prefix": "/" }] }),
            "config.statics: kept, but the edge serves no files yet; these requests go to the machine",
        ),
        (
            json!({ "services": [{ "protocol": "udp", "internal_port": 53, "ports": [{ "port": 53 }] }] }),
            "config.services[0].protocol: UDP is not served yet",
        ),
        (
            service(json!({ "ports": [{ "port": 5432 }] })),
            "config.services[0].ports[0].handlers: only the handler http is served yet, not raw TCP",
        ),
        (
            service(json!({ "ports": [{ "port": 443, "handlers": ["tls", "http"] }] })),
            "config.services[0].ports[0].handlers: TLS is not served yet; the port serves plain HTTP",
        ),
        (
            http(json!({ "force_https": true })),
            "config.services[0].ports[0].force_https: requests are not redirected to HTTPS yet",
        ),
        (
            service(json!({ "checks": [{ "type": "tcp", "interval": "500ms", "timeout": "2m",
                                         "grace_period": 0 }] })),
            "config.services[0].checks[0].interval: is below 1s and is raised to 1s\n\
             config.services[0].checks[0].timeout: is above 60s and is lowered to 60s",
        ),
    ] {
        assert_eq!(warnings_of(config.clone()), warning, "{config}");
    }
}

#[test]
fn labels_are_bounded_in_all() {
    let with = |count: usize, bytes: usize| {
        let labels = (0..count).map(|n| (format!("{n:03}"), "x".repeat(bytes)));
        let metadata = Some(labels.collect());
        check(&MachineConfig { image: "a".into(), metadata, ..MachineConfig::default() })
    };
    assert!(with(64, 1).is_ok());
    assert!(with(4, 16_000).is_ok());
    for (count, bytes) in [(65, 1), (5, 16_000)] {
        let refused = with(count, bytes).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("config.metadata"), "{refused}");
        assert!(refused.to_string().contains("at most 64 entries of 65536 bytes"), "{refused}");
    }
}
