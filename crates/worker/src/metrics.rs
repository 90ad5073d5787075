//! What this host counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// A stage of a start.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StageLabel {
    stage: String,
}

type StageFamily = Family<StageLabel, Histogram, fn() -> Histogram>;

/// What this host counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    start_seconds: StageFamily,
    pub(crate) boot_retries: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let make: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let metrics = Self {
            start_seconds: Family::new_with_constructor(make),
            boot_retries: Counter::default(),
        };
        let help = "Time of a machine's start on the host, by stage";
        registry.register("updraft_start_seconds", help, metrics.start_seconds.clone());
        let help = "Boots that failed and were tried again";
        registry.register("updraft_boot_retries", help, metrics.boot_retries.clone());
        metrics
    }

    pub(crate) fn stages(&self, stages: &[(String, f64)]) {
        for (stage, ms) in stages {
            let label = StageLabel { stage: stage.clone() };
            self.start_seconds.get_or_create(&label).observe(ms / 1e3);
        }
    }
}
