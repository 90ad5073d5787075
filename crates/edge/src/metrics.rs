//! What the edge counts, under Fly's names where they fit (O011).
//!
//! Labels hold only names of apps and machines in the table; an unknown host
//! never makes a series. Series of an app that is gone are removed.

use crate::table::Cell;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

type Labels = Vec<(&'static str, String)>;

/// Statuses whose counter an app keeps at hand.
const USUAL: [u16; 18] =
    [101, 200, 201, 202, 204, 206, 301, 302, 304, 400, 401, 403, 404, 429, 500, 502, 503, 504];

/// All metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    responses: Family<Labels, Counter>,
    wake: Family<Labels, Histogram, fn() -> Histogram>,
    pub(crate) connects: Counter,
    pub(crate) disconnects: Counter,
    pub(crate) refused: Counter,
    pub(crate) unrouted: Counter,
    pub(crate) retries: Counter,
    pub(crate) wakes: Counter,
    pub(crate) idle_stops: Counter,
    pub(crate) idle_suspends: Counter,
    pub(crate) upstream_open: Gauge,
    pub(crate) upstream_connects: Counter,
}

fn wake_histogram() -> Histogram {
    // A resume takes tens of milliseconds, a slow app a minute.
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry, cell: &Arc<Cell>) -> Self {
        let metrics = Self {
            responses: Family::default(),
            wake: Family::new_with_constructor(wake_histogram),
            connects: Counter::default(),
            disconnects: Counter::default(),
            refused: Counter::default(),
            unrouted: Counter::default(),
            retries: Counter::default(),
            wakes: Counter::default(),
            idle_stops: Counter::default(),
            idle_suspends: Counter::default(),
            upstream_open: Gauge::default(),
            upstream_connects: Counter::default(),
        };
        let m = metrics.clone();
        let text = "Answers by app and status";
        registry.register("fly_edge_http_responses_count", text, m.responses);
        let text = "Time of requests to sleeping machines by stage, since the request came";
        registry.register("updraft_edge_wake_seconds", text, m.wake);
        registry.register("fly_edge_tcp_connects_count", "Client connections", m.connects);
        registry.register("fly_edge_tcp_disconnects_count", "Ended ones", m.disconnects);
        registry.register("updraft_edge_refused", "Connections over the limit", m.refused);
        registry.register("updraft_edge_unrouted", "Requests that named no app", m.unrouted);
        registry.register("updraft_edge_retries", "Requests tried again", m.retries);
        registry.register("updraft_edge_wakes", "Machines woken", m.wakes);
        registry.register("updraft_edge_idle_stops", "Machines stopped as idle", m.idle_stops);
        let text = "Machines suspended as idle, or stopped where the host could not";
        registry.register("updraft_edge_idle_suspends", text, m.idle_suspends);
        let text = "Connections to machines, open";
        registry.register("updraft_edge_upstream_open", text, m.upstream_open);
        let text = "Connections to machines, made";
        registry.register("updraft_edge_upstream_connects", text, m.upstream_connects);
        registry.register_collector(Box::new(TableMetrics(cell.clone())));
        metrics
    }

    pub(crate) fn app(&self, name: &str) -> AppMetrics {
        AppMetrics {
            app: name.to_owned(),
            responses: self.responses.clone(),
            usual: Default::default(),
        }
    }

    /// A request to a sleeping machine has reached a stage.
    pub(crate) fn woke(&self, stage: &str, since: Duration) {
        let labels = vec![("stage", stage.to_owned())];
        self.wake.get_or_create(&labels).observe(since.as_secs_f64());
    }
}

/// Counters of one app.
#[derive(Debug)]
pub(crate) struct AppMetrics {
    app: String,
    responses: Family<Labels, Counter>,
    /// Taken from the family once: looking one up takes a shared lock.
    usual: [OnceLock<Counter>; USUAL.len()],
}

impl AppMetrics {
    fn labels(&self, status: u16) -> Labels {
        vec![("app", self.app.clone()), ("status", status.to_string())]
    }

    pub(crate) fn answered(&self, status: u16) {
        let look_up = || self.responses.get_or_create_owned(&self.labels(status));
        match USUAL.iter().position(|usual| *usual == status) {
            Some(at) => self.usual[at].get_or_init(look_up).inc(),
            None => look_up().inc(),
        };
    }
}

impl Drop for AppMetrics {
    fn drop(&mut self) {
        for status in 100..1000 {
            self.responses.remove(&self.labels(status));
        }
    }
}

/// What follows from the table at the moment of a scrape.
#[derive(Debug)]
struct TableMetrics(Arc<Cell>);

impl Collector for TableMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let table = self.0.newest();
        let text = "Requests and connections in flight";
        let mut out =
            encoder.encode_descriptor("fly_app_concurrency", text, None, MetricType::Gauge)?;
        for app in table.apps.values() {
            for row in &app.rows {
                let labels = [("app", &*app.shared.name), ("instance", &*row.machine.id)];
                let load = ConstGauge::new(i64::from(row.machine.in_flight()));
                load.encode(out.encode_family(&labels)?)?;
            }
        }
        let text = "Requests held";
        let mut out =
            encoder.encode_descriptor("updraft_edge_held", text, None, MetricType::Gauge)?;
        for app in table.apps.values() {
            let held = app.shared.waiting.load(SeqCst) as i64;
            ConstGauge::new(held).encode(out.encode_family(&[("app", &*app.shared.name)])?)?;
        }
        Ok(())
    }
}
