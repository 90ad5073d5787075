//! The containers of a machine, as its init gets them.

use super::images::MachineImages;
use super::process::{Scope, files, main};
use crate::units::containers;
use guest_protocol::{
    Condition, Container as GuestContainer, Dependency, Probe, RestartRule, RestartWhen, TempDir,
    Unit, UnitCheck, UnitId, UnitMount,
};
use model::restart::{DEFAULT_RETRIES, Policy, WINDOW, pauses};
use wire::machines::{
    Container, ContainerDependency, ContainerHealthcheck, ContainerVolume, Init, MachineConfig,
    MachineProcess,
};

/// The defaults of a health check, in seconds and runs.
const INTERVAL: u64 = 10;
const TIMEOUT: u64 = 5;
const SUCCESSES: u32 = 1;
const FAILURES: u32 = 3;

/// The containers of the machine of `scope`.
pub(super) fn units(scope: &Scope<'_>, images: &MachineImages) -> Result<Vec<Unit>, String> {
    let config = &scope.record.config;
    containers(config).iter().map(|container| unit(scope, images, container)).collect()
}

fn unit(scope: &Scope<'_>, images: &MachineImages, container: &Container) -> Result<Unit, String> {
    let (place, image) = images.of(container);
    let config = &scope.record.config;
    let process = MachineProcess {
        exec: container.exec.clone(),
        entrypoint: container.entrypoint.clone(),
        cmd: container.cmd.clone(),
        env: container.env.clone(),
        env_from: container.env_from.clone(),
        user: container.user.clone(),
        // With a list of its own it is given these and no others.
        ignore_app_secrets: Some(container.secrets.is_some()),
        secrets: container.secrets.clone(),
        ..MachineProcess::default()
    };
    let reference = container.image.as_deref().unwrap_or(&config.image);
    let own = Scope { image: &image.config, reference, init: Init::default(), ..scope.clone() };
    let named = |err: String| format!("container {}: {err}", container.name);
    let stop = container.stop.as_ref();
    let signal = stop.and_then(|stop| stop.signal.as_deref()).unwrap_or(&image.config.stop_signal);
    let timeout = stop.and_then(|stop| stop.timeout.as_ref()).and_then(|span| span.get());
    let depends_on = container.depends_on.iter().flatten();
    let checks = container.healthchecks.iter().flatten().enumerate();
    Ok(Unit {
        name: container.name.clone(),
        main: main(&own, Some(&process)).map_err(named)?,
        container: Some(GuestContainer {
            image: place,
            files: files(container.files.iter().flatten(), scope.secrets, images).map_err(named)?,
            restart: restart(container),
            stop_signal: model::signal::number(signal),
            stop_timeout_ms: timeout.and_then(|span| u64::try_from(span.as_millis()).ok()),
            depends_on: depends_on.filter_map(|on| dependency(config, on)).collect(),
            checks: checks.filter_map(|(i, check)| self::check(i, check)).collect(),
            mounts: mounts(config, container),
        }),
    })
}

/// The rule of the host's own policy (`model::restart`).
fn restart(container: &Container) -> RestartRule {
    let restart = container.restart.as_ref();
    let policy = restart.and_then(|restart| restart.policy.as_deref());
    let retries = restart.and_then(|restart| restart.max_retries);
    // The API refuses an unknown policy.
    let (when, max_retries) = match Policy::parse(policy, retries).unwrap_or(Policy::No) {
        Policy::No => (RestartWhen::Never, DEFAULT_RETRIES),
        Policy::OnFailure { max_retries } => (RestartWhen::OnFailure, max_retries),
        Policy::Always => (RestartWhen::Always, DEFAULT_RETRIES),
    };
    let ms = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    RestartRule { when, max_retries, window_ms: ms(WINDOW), pauses_ms: pauses().map(ms).collect() }
}

fn dependency(config: &MachineConfig, on: &ContainerDependency) -> Option<Dependency> {
    let place = containers(config).iter().position(|container| container.name == on.name)?;
    let condition = match on.condition.as_deref() {
        Some("healthy") => Condition::Healthy,
        Some("exited_successfully") => Condition::ExitedSuccessfully,
        _ => Condition::Started,
    };
    Some(Dependency { unit: UnitId::try_from(place).ok()?, condition })
}

fn check(number: usize, check: &ContainerHealthcheck) -> Option<UnitCheck> {
    let probe = if let Some(http) = &check.http {
        let headers = http.headers.iter().flatten();
        let headers = headers.flat_map(|header| {
            header.values.iter().map(|value| (header.name.clone(), value.clone()))
        });
        let word = |text: &Option<String>, default: &str| {
            text.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| default.into())
        };
        Probe::Http {
            port: http.port,
            method: word(&http.method, "GET"),
            path: word(&http.path, "/"),
            headers: headers.collect(),
        }
    } else if let Some(tcp) = &check.tcp {
        Probe::Tcp(tcp.port)
    } else {
        Probe::Exec(check.exec.as_ref()?.command.clone())
    };
    let name = check.name.clone().filter(|name| !name.is_empty());
    Some(UnitCheck {
        name: name.unwrap_or_else(|| (number + 1).to_string()),
        stops: check.unhealthy.as_deref() == Some("stop"),
        interval_ms: check.interval.unwrap_or(INTERVAL) * 1000,
        timeout_ms: check.timeout.unwrap_or(TIMEOUT) * 1000,
        grace_ms: check.grace_period.unwrap_or(0) * 1000,
        success_threshold: check.success_threshold.unwrap_or(SUCCESSES),
        failure_threshold: check.failure_threshold.unwrap_or(FAILURES),
        probe,
    })
}

fn mounts(config: &MachineConfig, container: &Container) -> Vec<UnitMount> {
    let volumes = config.volumes.as_deref().unwrap_or_default();
    let mounts = container.mounts.iter().flatten().filter_map(|mount| {
        let place = volumes.iter().position(|volume| volume.name == mount.name)?;
        Some(UnitMount { volume: u16::try_from(place).ok()?, path: mount.path.clone() })
    });
    mounts.collect()
}

/// The directories that containers share.
pub(super) fn volumes(config: &MachineConfig) -> Vec<TempDir> {
    let directory = |volume: &ContainerVolume| {
        let temp_dir = volume.temp_dir.clone().unwrap_or_default();
        let memory = temp_dir.storage_type.as_deref() == Some("memory");
        TempDir { name: volume.name.clone(), memory_mib: temp_dir.size_mb.filter(|_| memory) }
    };
    config.volumes.iter().flatten().map(directory).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(value: serde_json::Value) -> Container {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn checks_have_seconds_and_defaults() {
        let one = |value| {
            let container = container(json!({ "name": "a", "healthchecks": [value] }));
            check(0, &container.healthchecks.unwrap()[0]).unwrap()
        };
        let tcp = one(json!({ "tcp": { "port": 80 } }));
        let want = UnitCheck {
            name: "1".into(),
            stops: false,
            interval_ms: 10_000,
            timeout_ms: 5000,
            grace_ms: 0,
            success_threshold: 1,
            failure_threshold: 3,
            probe: Probe::Tcp(80),
        };
        assert_eq!(tcp, want);
        let http = one(json!({
            "name": "up", "unhealthy": "stop", "interval": 7, "timeout": 2, "grace_period": 3,
            "success_threshold": 4, "failure_threshold": 5,
            "http": { "port": 8080, "path": "/up", "method": "HEAD",
                      "headers": [{ "name": "A", "values": ["1", "2"] }] },
        }));
        let pair = |value: &str| ("A".to_owned(), value.to_owned());
        let want = UnitCheck {
            name: "up".into(),
            stops: true,
            interval_ms: 7000,
            timeout_ms: 2000,
            grace_ms: 3000,
            success_threshold: 4,
            failure_threshold: 5,
            probe: Probe::Http {
                port: 8080,
                method: "HEAD".into(),
                path: "/up".into(),
                headers: vec![pair("1"), pair("2")],
            },
        };
        assert_eq!(http, want);
        let exec = one(json!({ "exec": { "command": ["true"] } }));
        assert_eq!(exec.probe, Probe::Exec(vec!["true".into()]));
    }

    #[test]
    fn restarts_follow_the_policy_of_machines() {
        let rule = |restart| restart_of(json!({ "name": "a", "restart": restart }));
        fn restart_of(value: serde_json::Value) -> RestartRule {
            restart(&container(value))
        }
        let default = restart_of(json!({ "name": "a" }));
        assert_eq!((default.when, default.max_retries), (RestartWhen::OnFailure, 10));
        assert_eq!(default.pauses_ms, [0, 500, 1000, 2000, 4000, 8000, 16_000, 30_000]);
        assert_eq!(default.window_ms, 300_000);
        assert_eq!(rule(json!({ "policy": "no" })).when, RestartWhen::Never);
        assert_eq!(rule(json!({ "policy": "always" })).when, RestartWhen::Always);
        assert_eq!(rule(json!({ "policy": "on-failure", "max_retries": 2 })).max_retries, 2);
    }

    #[test]
    fn names_become_places() {
        let config: MachineConfig = serde_json::from_value(json!({
            "volumes": [{ "name": "x", "temp_dir": { "storage_type": "disk", "size_mb": 9 } },
                        { "name": "y", "temp_dir": { "storage_type": "memory", "size_mb": 8 } }],
            "containers": [
                { "name": "a" },
                { "name": "b", "depends_on": [{ "name": "a", "condition": "healthy" }],
                  "mounts": [{ "name": "y", "path": "/m" }] },
            ],
        }))
        .unwrap();
        let b = &containers(&config)[1];
        let on = dependency(&config, &b.depends_on.as_ref().unwrap()[0]);
        assert_eq!(on, Some(Dependency { unit: 0, condition: Condition::Healthy }));
        assert_eq!(mounts(&config, b), [UnitMount { volume: 1, path: "/m".into() }]);
        let sizes: Vec<_> = volumes(&config).into_iter().map(|volume| volume.memory_mib).collect();
        assert_eq!(sizes, [None, Some(8)]);
    }
}
