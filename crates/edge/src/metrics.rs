//! What the edge counts, under the names of fly.io/docs/monitoring/metrics where
//! they fit, with the labels `region` and `host`.
//!
//! Labels hold only names of apps and machines in the table; an unknown host
//! never makes a series. Series of an app that is gone are removed.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

type Labels = Vec<(&'static str, String)>;

/// Statuses whose counter an app keeps at hand.
const USUAL: [u16; 18] =
    [101, 200, 201, 202, 204, 206, 301, 302, 304, 400, 401, 403, 404, 429, 500, 502, 503, 504];

/// A counter whose name is written as it is. Names that end in `_count` are given
/// by Fly's documentation, and the library would add `_total` to a counter's.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlainCounter(Arc<AtomicU64>);

impl PlainCounter {
    pub(crate) fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl EncodeMetric for PlainCounter {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_gauge(&self.0.load(Ordering::Relaxed))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Unknown
    }
}

impl TypedMetric for PlainCounter {
    const TYPE: MetricType = MetricType::Unknown;
}

/// All metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    responses: Family<Labels, PlainCounter>,
    wake: Family<Labels, Histogram, fn() -> Histogram>,
    pub(crate) connects: PlainCounter,
    pub(crate) disconnects: PlainCounter,
    /// Connections refused because there are too many.
    pub(crate) refused: Counter,
    /// Idle connections closed to make room for new ones.
    pub(crate) evicted: Counter,
    pub(crate) unrouted: Counter,
    pub(crate) retries: Counter,
    pub(crate) wakes: Counter,
    pub(crate) idle_stops: Counter,
    pub(crate) idle_suspends: Counter,
    pub(crate) idle_checks: Counter,
    pub(crate) upstream_open: Gauge,
    pub(crate) upstream_connects: Counter,
}

fn wake_histogram() -> Histogram {
    // A resume takes tens of milliseconds, a slow app a minute.
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

impl Metrics {
    /// Registers the metrics of an edge in `region` on `host`.
    pub(crate) fn new(registry: &mut Registry, region: &str, host: &str) -> Self {
        let metrics = Self {
            responses: Family::default(),
            wake: Family::new_with_constructor(wake_histogram),
            connects: PlainCounter::default(),
            disconnects: PlainCounter::default(),
            refused: Counter::default(),
            evicted: Counter::default(),
            unrouted: Counter::default(),
            retries: Counter::default(),
            wakes: Counter::default(),
            idle_stops: Counter::default(),
            idle_suspends: Counter::default(),
            idle_checks: Counter::default(),
            upstream_open: Gauge::default(),
            upstream_connects: Counter::default(),
        };
        let label = |name: &'static str, value: &str| {
            (Cow::Borrowed(name), Cow::Owned::<str>(value.to_owned()))
        };
        let labels = [label("region", region), label("host", host)];
        metrics.clone().register(registry.sub_registry_with_labels(labels.into_iter()));
        metrics
    }

    fn register(self, registry: &mut Registry) {
        let text = "Answers by app and status";
        registry.register("fly_edge_http_responses_count", text, self.responses);
        let text = "Time of requests to sleeping machines by stage, since the request came";
        registry.register("updraft_edge_wake_seconds", text, self.wake);
        registry.register("fly_edge_tcp_connects_count", "Client connections", self.connects);
        registry.register("fly_edge_tcp_disconnects_count", "Ended ones", self.disconnects);
        registry.register("updraft_edge_refused", "Connections over a limit", self.refused);
        let text = "Idle connections closed to make room";
        registry.register("updraft_edge_evicted", text, self.evicted);
        registry.register("updraft_edge_unrouted", "Requests that named no app", self.unrouted);
        registry.register("updraft_edge_retries", "Requests tried again", self.retries);
        registry.register("updraft_edge_wakes", "Machines woken", self.wakes);
        registry.register("updraft_edge_idle_stops", "Machines stopped as idle", self.idle_stops);
        let text = "Machines suspended as idle, or stopped where the host could not";
        registry.register("updraft_edge_idle_suspends", text, self.idle_suspends);
        let text = "Looks of autostop at one app";
        registry.register("updraft_edge_idle_checks", text, self.idle_checks);
        let text = "Connections to machines, open";
        registry.register("updraft_edge_upstream_open", text, self.upstream_open);
        let text = "Connections to machines, made";
        registry.register("updraft_edge_upstream_connects", text, self.upstream_connects);
    }

    pub(crate) fn app(&self, name: &str) -> AppMetrics {
        AppMetrics {
            app: name.to_owned(),
            responses: self.responses.clone(),
            usual: Default::default(),
            series: Mutex::new(Some(BTreeMap::new())),
        }
    }

    /// A request to a sleeping machine has reached a stage.
    pub(crate) fn record_wake_stage(&self, stage: &str, since: Duration) {
        let labels = vec![("stage", stage.to_owned())];
        self.wake.get_or_create(&labels).observe(since.as_secs_f64());
    }
}

/// Counters of one app.
#[derive(Debug)]
pub(crate) struct AppMetrics {
    app: String,
    responses: Family<Labels, PlainCounter>,
    /// Taken from the family once: looking one up takes a shared lock.
    usual: [OnceLock<PlainCounter>; USUAL.len()],
    /// The series that this app has; `None` once they have been removed, so that a
    /// late answer makes no new one.
    series: Mutex<Option<BTreeMap<u16, PlainCounter>>>,
}

impl AppMetrics {
    fn labels(&self, status: u16) -> Labels {
        vec![("app", self.app.clone()), ("status", status.to_string())]
    }

    pub(crate) fn record_response(&self, status: u16) {
        match USUAL.iter().position(|usual| *usual == status) {
            Some(at) => self.usual[at].get_or_init(|| self.counter(status)).inc(),
            None => self.counter(status).inc(),
        };
    }

    /// The counter of a status; one that is not exported once the app is gone.
    fn counter(&self, status: u16) -> PlainCounter {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(series) = &mut *series else { return PlainCounter::default() };
        let look_up = || self.responses.get_or_create_owned(&self.labels(status));
        series.entry(status).or_insert_with(look_up).clone()
    }

    /// Removes the app's series. Called when the app leaves the table, before an
    /// app of the same name can be added again.
    pub(crate) fn remove(&self) {
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner).take();
        for status in series.into_iter().flatten().map(|(status, _)| status) {
            self.responses.remove(&self.labels(status));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text.lines().filter(|line| line.starts_with("fly_")).map(|l| format!("{l}\n")).collect()
    }

    #[test]
    fn names_and_labels_are_as_documented_and_series_go_with_their_app() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry, "ams", "00ab");
        metrics.connects.inc();
        let old = metrics.app("web");
        old.record_response(200);
        old.record_response(418);
        expect_test::expect![[r#"
            fly_edge_http_responses_count{region="ams",host="00ab",app="web",status="200"} 1
            fly_edge_http_responses_count{region="ams",host="00ab",app="web",status="418"} 1
            fly_edge_tcp_connects_count{region="ams",host="00ab"} 1
            fly_edge_tcp_disconnects_count{region="ams",host="00ab"} 0
        "#]]
        .assert_eq(&sorted(&text(&registry)));
        old.remove();
        // The app is there again, and only then the last answer of the former ends.
        let new = metrics.app("web");
        new.record_response(200);
        old.record_response(200);
        old.record_response(500);
        old.remove();
        drop(old);
        let now = text(&registry);
        assert!(now.contains(r#"app="web",status="200"} 1"#), "{now}");
        assert!(!now.contains("500") && !now.contains("418"), "{now}");
    }

    fn sorted(text: &str) -> String {
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
