//! One app and its machines as of one moment.

use crate::admission::app::AppShared;
use crate::admission::machine::Machine;
use crate::http::timing::host_stages;
use crate::table::target::Target;
use host_api::{Route, RouteState};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;
use tokio::time::Instant;
use wire::machines::{Autostop, Port, Service};

/// Soft limit of a service that names none (fly.io/docs/reference/load-balancing).
const SOFT_LIMIT: u32 = 20;
/// Longest `http_options.idle_timeout` that is acted on.
const LONGEST_IDLE: Duration = Duration::from_secs(24 * 3600);

/// One app as of one moment.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) shared: Arc<AppShared>,
    pub(crate) rows: Vec<Arc<Row>>,
    /// The machines behind each outside port with an HTTP service.
    ports: Vec<(u16, Vec<Target>)>,
}

/// One machine as of one moment.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) route: Route,
    pub(crate) machine: Arc<Machine>,
    /// Counts the routes of this machine.
    pub(super) version: u64,
    /// Load of each service, by internal port; kept over changes.
    pub(super) loads: Vec<(u16, Arc<AtomicU32>)>,
    /// When it last came up.
    pub(super) came_up: Instant,
    /// The stages of that start.
    pub(super) stages_ms: Vec<(String, f64)>,
}

impl App {
    /// The app of these machines, for an edge in `region` with listeners that
    /// stand for `ports`.
    pub(super) fn new(
        shared: Arc<AppShared>,
        rows: Vec<Arc<Row>>,
        ports: &[u16],
        region: &str,
    ) -> Self {
        let behind = |port: &u16| {
            let targets = rows.iter().filter_map(|row| row.target(*port, region));
            (*port, targets.collect::<Vec<_>>())
        };
        let ports = ports.iter().map(behind).filter(|(_, targets)| !targets.is_empty()).collect();
        Self { shared, ports, rows }
    }

    /// The first of `ports` behind which the app has an HTTP service.
    pub(crate) fn targets(&self, ports: &[u16]) -> Option<&[Target]> {
        let behind = |want: &u16| self.ports.iter().find(|(port, _)| port == want);
        ports.iter().find_map(behind).map(|(_, targets)| targets.as_slice())
    }

    /// Autostop may act on one of its machines.
    pub(super) fn has_autostop(&self) -> bool {
        let stops = |s: &Service| s.autostop.unwrap_or_default() != Autostop::Off;
        self.rows.iter().any(|row| row.route.services.iter().any(stops))
    }

    /// Why no service of the app answers HTTP on `port`, and what it has instead.
    pub(crate) fn no_service(&self, port: u16) -> String {
        /// Services that are named; the rest is left out.
        const NAMED: usize = 8;
        let services = self.rows.iter().flat_map(|row| &row.route.services);
        let all: BTreeSet<String> = services.map(describe).collect();
        let has = match all.len() {
            0 => "its machines have no services".into(),
            _ => {
                let named: Vec<_> = all.into_iter().take(NAMED).collect();
                format!("its services: {}", named.join("; "))
            }
        };
        format!("app {} has no http service on port {port}; {has}", self.shared.name)
    }
}

/// A service in words, with what of it is not served.
fn describe(service: &Service) -> String {
    let internal = service
        .internal_port
        .map_or("no internal port".into(), |port| format!("internal port {port}"));
    let protocol = service.protocol.as_deref().unwrap_or("tcp");
    let ports = service.ports.iter().flatten().map(|port| {
        let number = match (port.port, port.start_port, port.end_port) {
            (Some(port), ..) => format!("{port}"),
            (_, Some(from), Some(to)) => format!("{from}-{to}"),
            _ => "no number".into(),
        };
        match port.handlers.as_deref().unwrap_or_default() {
            [] => format!("port {number} without a handler"),
            handlers => format!("port {number} ({})", handlers.join(", ")),
        }
    });
    let ports: Vec<_> = ports.collect();
    let ports = if ports.is_empty() { "no outside port".into() } else { ports.join(", ") };
    let is_http = protocol == "tcp" && service.ports.iter().flatten().any(is_http);
    let note = match protocol {
        _ if is_http => "",
        "tcp" => ", raw TCP, which is not served yet",
        _ => ", which is not served yet",
    };
    format!("{internal} ({protocol}{note}) on {ports}")
}

fn is_http(port: &Port) -> bool {
    port.handlers.as_deref().unwrap_or_default().iter().any(|handler| handler == "http")
}

fn covers(port: &Port, want: u16) -> bool {
    let range = port.start_port.zip(port.end_port);
    port.port == Some(want) || range.is_some_and(|(from, to)| (from..=to).contains(&want))
}

impl Row {
    /// Load of a service.
    pub(crate) fn load(&self, internal_port: u16) -> u32 {
        let found = self.loads.iter().find(|(port, _)| *port == internal_port);
        found.map_or(0, |(_, load)| load.load(SeqCst))
    }

    /// The machine as a target behind an outside port, if it has an HTTP service
    /// there.
    fn target(&self, want: u16, region: &str) -> Option<Target> {
        let route = &self.route;
        let (service, port) = route.services.iter().find_map(|service| {
            let is_tcp = service.protocol.as_deref().is_none_or(|p| p == "tcp");
            let mut ports = service.ports.as_ref()?.iter();
            let port = ports.find(|port| covers(port, want) && is_http(port)).filter(|_| is_tcp)?;
            Some((service, port))
        })?;
        let internal = service.internal_port?;
        let options = port.http_options.as_ref();
        let response = options.and_then(|options| options.response.as_ref());
        let (soft, hard) = limits(service);
        let kind = service.concurrency.as_ref().and_then(|c| c.kind.as_deref());
        Some(Target {
            machine: self.machine.clone(),
            load: self.loads.iter().find(|(p, _)| *p == internal)?.1.clone(),
            boot: route.boot,
            port: internal,
            hard,
            connection_per_request: kind != Some("requests"),
            pristine: response.and_then(|response| response.pristine).unwrap_or(false),
            idle_timeout: options.and_then(|options| idle_timeout(options.idle_timeout?)),
            last_failure: route.last_failure.clone(),
            version: self.version,
            timing: service.server_timing.unwrap_or(false).then(|| host_stages(&self.stages_ms)),
            came_up: self.came_up,
            state: route.state,
            listening: route.listening.contains(&internal),
            health: route.health.iter().find(|h| h.port == internal).map(|h| h.status),
            cordoned: route.cordoned,
            soft,
            autostart: service.autostart.unwrap_or(!route.disable_autostart),
            suspended: route.suspended && route.state == RouteState::Asleep,
            remote: route.region != region,
        })
    }
}

/// A port's own idle timeout. Zero would cut every answer, and counts as absent.
fn idle_timeout(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds).min(LONGEST_IDLE))
}

/// Soft and hard limit of a service.
pub(crate) fn limits(service: &Service) -> (u32, u32) {
    // Clients that write every field send 0 for a limit that is not set.
    let limit = |limit: Option<u32>| limit.filter(|limit| *limit > 0);
    let concurrency = service.concurrency.as_ref();
    let hard = concurrency.and_then(|c| limit(c.hard_limit)).unwrap_or(u32::MAX);
    let soft = concurrency.and_then(|c| limit(c.soft_limit)).unwrap_or(SOFT_LIMIT);
    (soft.min(hard), hard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::{Lab, services};

    #[tokio::test]
    async fn an_outside_port_leads_to_its_http_service() {
        let mut lab = Lab::new(&[8080, 80, 443]);
        lab.upsert("m1", |r| {
            r.services = services(serde_json::json!([
                {"protocol": "tcp", "internal_port": 5432, "ports": [{"port": 80}]},
                {"protocol": "tcp", "internal_port": 3000, "ports": [
                    {"port": 443, "handlers": ["tls", "http"],
                     "http_options": {"idle_timeout": 7, "response": {"pristine": true}}}]},
                {"protocol": "udp", "internal_port": 53, "ports": [{"port": 443, "handlers": ["http"]}]},
                {"internal_port": 9000, "ports": [{"start_port": 8000, "end_port": 8100, "handlers": ["http"]}]}
            ]));
        });
        let app = lab.app("web").unwrap();
        let port = |ports: &[u16]| app.targets(ports).map(|t| t[0].port);
        assert_eq!(port(&[8080, 80, 443]), Some(9000));
        assert_eq!(port(&[80, 443]), Some(3000), "raw TCP on port 80 is not HTTP");
        assert_eq!(port(&[80]), None);
        let target = &app.targets(&[443]).unwrap()[0];
        assert!(target.pristine && target.idle_timeout == Some(Duration::from_secs(7)));
        assert!(target.autostart, "autostart is the default");
        assert!(target.connection_per_request, "absent concurrency counts connections");
        assert_eq!((target.soft, target.hard), (20, u32::MAX));
        expect_test::expect![[r#"
            app web has no http service on port 80; its services: internal port 3000 (tcp) on port 443 (tls, http); internal port 53 (udp, which is not served yet) on port 443 (http); internal port 5432 (tcp, raw TCP, which is not served yet) on port 80 without a handler; internal port 9000 (tcp) on port 8000-8100 (http)
        "#]]
        .assert_eq(&format!("{}\n", app.no_service(80)));
    }

    #[tokio::test]
    async fn only_requests_share_connections() {
        for (concurrency, own) in [
            (serde_json::json!(null), true),
            (serde_json::json!({}), true),
            (serde_json::json!({"type": ""}), true),
            (serde_json::json!({"type": "connections"}), true),
            (serde_json::json!({"type": "requests"}), false),
        ] {
            let mut lab = Lab::new(&[80]);
            lab.upsert("m1", |r| {
                r.services[0].concurrency = serde_json::from_value(concurrency.clone()).unwrap();
            });
            assert_eq!(lab.target("web").connection_per_request, own, "{concurrency}");
        }
    }

    #[tokio::test]
    async fn a_config_may_turn_autostart_off_for_services_that_do_not_set_it() {
        for (service, disabled, autostart) in [
            (None, false, true),
            (None, true, false),
            (Some(true), true, true),
            (Some(false), false, false),
        ] {
            let mut lab = Lab::new(&[80]);
            lab.upsert("m1", |r| {
                r.services[0].autostart = service;
                r.disable_autostart = disabled;
            });
            assert_eq!(lab.target("web").autostart, autostart, "{service:?} {disabled}");
        }
    }

    #[tokio::test]
    async fn odd_limits_and_timeouts_count_as_absent_or_are_capped() {
        for (given, acted_on) in
            [(0, None), (1, Some(1)), (u64::MAX, Some(LONGEST_IDLE.as_secs())), (60, Some(60))]
        {
            assert_eq!(idle_timeout(given).map(|t| t.as_secs()), acted_on);
        }
        let zero: Service = serde_json::from_value(
            serde_json::json!({"concurrency": {"type": "", "soft_limit": 0, "hard_limit": 0}}),
        )
        .unwrap();
        assert_eq!(limits(&zero), (SOFT_LIMIT, u32::MAX));
    }

    #[tokio::test]
    async fn only_a_machine_that_is_asleep_counts_as_suspended() {
        for (state, suspended) in [(RouteState::Asleep, true), (RouteState::Stopping, false)] {
            let mut lab = Lab::new(&[80]);
            lab.upsert("m1", |r| (r.state, r.suspended) = (state, true));
            assert_eq!(lab.target("web").candidate().suspended, suspended, "{state:?}");
        }
    }
}
