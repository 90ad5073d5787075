//! The checks of a machine's config, with defaults filled in and bounds kept.

use model::check::{
    self, DEFAULT_GRACE, DEFAULT_INTERVAL, DEFAULT_TIMEOUT, LIVENESS_FAILURES, LONGEST_SPAN,
    LONGEST_TIMEOUT, MAX_THRESHOLD, Purpose, SHORTEST_INTERVAL, Thresholds,
};
use std::time::Duration;
use wire::machines::{Check, MachineConfig, Span};

/// One check of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckSpec {
    /// Key of the config, or generated.
    pub(crate) name: String,
    pub(crate) purpose: Purpose,
    /// The service that it belongs to, by its internal port; `None` for a check of the
    /// machine itself, which covers all services.
    pub(crate) service: Option<u16>,
    pub(crate) probe: Probe,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) grace: Duration,
    pub(crate) thresholds: Thresholds,
}

/// What a check does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Connects to a port.
    Tcp { port: u16 },
    /// Sends a request.
    Http(HttpProbe),
    /// Runs a command in the guest.
    Script { argv: Vec<String> },
}

/// A request of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpProbe {
    pub(crate) port: u16,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    /// `None` is plain HTTP.
    pub(crate) tls: Option<TlsOptions>,
}

/// How the certificate of an `https` check is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    pub(crate) skip_verify: bool,
    /// `None` is the machine's address.
    pub(crate) server_name: Option<String>,
}

impl Probe {
    /// As the API names it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Tcp { .. } => "tcp",
            Self::Http(_) => "http",
            Self::Script { .. } => "script",
        }
    }

    /// The port that it asks.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp { port } => Some(*port),
            Self::Http(http) => Some(http.port),
            Self::Script { .. } => None,
        }
    }
}

/// The checks of a config: those of services first, in their order. One that names no
/// port and finds none is left out; the API refuses such.
pub(crate) fn specs(config: &MachineConfig) -> Vec<CheckSpec> {
    let services = config.services.as_deref().unwrap_or_default();
    let of_services = services.iter().flat_map(|service| {
        service.checks.iter().flatten().map(|check| (service.internal_port, check))
    });
    let mut specs: Vec<CheckSpec> = of_services
        .enumerate()
        .filter_map(|(index, (port, check))| of_service(index, port?, check))
        .collect();
    let first = services.iter().find_map(|service| service.internal_port);
    let named = config.checks.iter().flatten();
    specs.extend(named.filter_map(|(name, check)| of_machine(name, first, check)));
    specs
}

/// Internal ports whose routing readiness checks decide, in order.
pub(crate) fn covered_ports(config: &MachineConfig) -> Vec<u16> {
    let is_readiness = |check: &Check, default| purpose(check, default) == Purpose::Readiness;
    let mut named = config.checks.iter().flatten();
    let of_machine = named.any(|(_, check)| is_readiness(check, Purpose::Informational));
    let mut ports: Vec<u16> = config
        .services
        .iter()
        .flatten()
        .filter(|service| {
            let mut own = service.checks.iter().flatten();
            of_machine || own.any(|check| is_readiness(check, Purpose::Readiness))
        })
        .filter_map(|service| service.internal_port)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn of_service(index: usize, service: u16, check: &Check) -> Option<CheckSpec> {
    let probe = probe(check, Some(service))?;
    let purpose = purpose(check, Purpose::Readiness);
    let port = probe.port().unwrap_or(service);
    Some(CheckSpec {
        name: check::service_check_name(index, probe.kind(), port),
        purpose,
        service: Some(service),
        interval: check::clamp_service(span(&check.interval, DEFAULT_INTERVAL)),
        timeout: check::clamp_service(span(&check.timeout, DEFAULT_TIMEOUT)),
        grace: check::clamp_service_grace(span(&check.grace_period, DEFAULT_GRACE)),
        thresholds: thresholds(check, purpose),
        probe,
    })
}

fn of_machine(name: &str, first_port: Option<u16>, check: &Check) -> Option<CheckSpec> {
    let probe = probe(check, first_port)?;
    let purpose = purpose(check, Purpose::Informational);
    let shortest = Duration::from_millis(100);
    Some(CheckSpec {
        name: name.to_owned(),
        purpose,
        service: None,
        interval: span(&check.interval, DEFAULT_INTERVAL).clamp(SHORTEST_INTERVAL, LONGEST_SPAN),
        timeout: span(&check.timeout, DEFAULT_TIMEOUT).clamp(shortest, LONGEST_TIMEOUT),
        grace: span(&check.grace_period, DEFAULT_GRACE).min(LONGEST_SPAN),
        thresholds: thresholds(check, purpose),
        probe,
    })
}

fn span(given: &Option<Span>, default: Duration) -> Duration {
    given.as_ref().and_then(Span::get).unwrap_or(default)
}

fn purpose(check: &Check, default: Purpose) -> Purpose {
    check.purpose.as_deref().and_then(Purpose::parse).unwrap_or(default)
}

fn thresholds(check: &Check, purpose: Purpose) -> Thresholds {
    let failure = if purpose == Purpose::Liveness { LIVENESS_FAILURES } else { 1 };
    let bounded = |given: Option<u32>, default| given.unwrap_or(default).clamp(1, MAX_THRESHOLD);
    Thresholds {
        success: bounded(check.success_threshold, 1),
        failure: bounded(check.failure_threshold, failure),
    }
}

fn probe(check: &Check, port: Option<u16>) -> Option<Probe> {
    let port = check.port.or(port);
    match check.kind.as_deref()? {
        "tcp" => Some(Probe::Tcp { port: port? }),
        "http" => Some(Probe::Http(HttpProbe {
            port: port?,
            method: check.method.as_deref().unwrap_or("GET").to_ascii_uppercase(),
            path: check.path.clone().unwrap_or_else(|| "/".into()),
            headers: headers(check),
            tls: (check.protocol.as_deref() == Some("https")).then(|| TlsOptions {
                skip_verify: check.tls_skip_verify == Some(true),
                server_name: check.tls_server_name.clone().filter(|name| !name.is_empty()),
            }),
        })),
        "script" => check.command.clone().map(|argv| Probe::Script { argv }),
        _ => None,
    }
}

fn headers(check: &Check) -> Vec<(String, String)> {
    let fields = check.headers.iter().flatten();
    let fields = fields.flat_map(|field| {
        field.values.iter().map(|value| (field.name.to_ascii_lowercase(), value.clone()))
    });
    fields.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: serde_json::Value) -> MachineConfig {
        serde_json::from_value(json).unwrap()
    }

    fn line(spec: &CheckSpec) -> String {
        let CheckSpec { name, purpose, service, probe, interval, timeout, grace, thresholds } =
            spec;
        let port = probe.port().map_or("-".into(), |port| port.to_string());
        let service = service.map_or("-".into(), |port| port.to_string());
        let Thresholds { success, failure } = thresholds;
        format!(
            "{name} {} {} service={service} port={port} {interval:?} {timeout:?} {grace:?} \
             {success}/{failure}",
            probe.kind(),
            purpose.as_str()
        )
    }

    #[test]
    fn checks_of_a_config() {
        let config = config(serde_json::json!({
            "image": "a",
            "services": [
                {"internal_port": 8080, "checks": [
                    {"type": "tcp"},
                    {"type": "http", "port": 9090, "interval": "5ms", "timeout": "2m",
                     "grace_period": 0, "failure_threshold": 2}]},
                {"internal_port": 53, "checks": [{"type": "script", "command": ["dig"],
                     "kind": "informational"}]}
            ],
            "checks": {
                "alive": {"type": "http", "kind": "liveness", "protocol": "https",
                          "interval": 30_000_000_000_u64},
                "up": {"type": "script", "command": ["true"], "interval": "2h"}
            }
        }));
        let lines: Vec<String> = specs(&config).iter().map(line).collect();
        expect_test::expect![[r#"
            servicecheck-00-tcp-8080 tcp readiness service=8080 port=8080 15s 2s 5s 1/1
            servicecheck-01-http-9090 http readiness service=8080 port=9090 1s 60s 0ns 1/2
            servicecheck-02-script-53 script informational service=53 port=- 15s 2s 5s 1/1
            alive http liveness service=- port=8080 30s 2s 5s 1/3
            up script informational service=- port=- 3600s 2s 5s 1/1"#]]
        .assert_eq(&lines.join("\n"));
        assert_eq!(covered_ports(&config), [8080]);
    }

    #[test]
    fn the_request_of_an_http_check() {
        let check = serde_json::json!({
            "type": "http", "port": 443, "method": "head", "path": "/up", "protocol": "https",
            "tls_server_name": "app.example.com", "tls_skip_verify": true,
            "headers": [{"name": "X-A", "values": ["1", "2"]}]
        });
        let config = config(serde_json::json!({
            "image": "a",
            "services": [{"internal_port": 80, "checks": [check]}],
            "checks": {"up": check, "plain": {"type": "http", "port": 80, "protocol": "http"}}
        }));
        let probes: Vec<Probe> = specs(&config).into_iter().map(|spec| spec.probe).collect();
        let [Probe::Http(of_service), Probe::Http(plain), Probe::Http(named)] = &probes[..] else {
            panic!("{probes:?}");
        };
        for probe in [of_service, named] {
            assert_eq!((probe.method.as_str(), probe.path.as_str()), ("HEAD", "/up"));
            let headers = [("x-a".to_owned(), "1".to_owned()), ("x-a".to_owned(), "2".to_owned())];
            assert_eq!(probe.headers, headers);
            let tls = probe.tls.as_ref().unwrap();
            assert_eq!(tls.server_name.as_deref(), Some("app.example.com"));
            assert!(tls.skip_verify);
        }
        assert_eq!((plain.method.as_str(), plain.tls.is_none()), ("GET", true));
    }

    #[test]
    fn a_readiness_check_of_the_machine_covers_all_services() {
        let config = config(serde_json::json!({
            "image": "a",
            "services": [{"internal_port": 8080}, {"internal_port": 53}],
            "checks": {"ready": {"type": "tcp", "port": 1, "kind": "readiness"}}
        }));
        assert_eq!(covered_ports(&config), [53, 8080]);
    }
}
