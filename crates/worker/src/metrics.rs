//! Metrics of this host.

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

/// How a start came about: `template`, `cold` or `resumed`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OriginLabel {
    origin: &'static str,
}

/// How something ended: `ok` or `failed`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ResultLabel {
    result: &'static str,
}

type StageFamily = Family<StageLabel, Histogram, fn() -> Histogram>;

/// Metrics of this host.
#[derive(Debug)]
pub(crate) struct Metrics {
    start_seconds: StageFamily,
    suspend_seconds: StageFamily,
    pub(crate) boot_retries: Counter,
    pub(crate) suspend_failures: Counter,
    pub(crate) resume_failures: Counter,
    starts: Family<OriginLabel, Counter>,
    template_builds: Family<ResultLabel, Counter>,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let make: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let metrics = Self {
            start_seconds: Family::new_with_constructor(make),
            suspend_seconds: Family::new_with_constructor(make),
            boot_retries: Counter::default(),
            suspend_failures: Counter::default(),
            resume_failures: Counter::default(),
            starts: Family::default(),
            template_builds: Family::default(),
        };
        let help = "Time of a machine's start on the host, by stage";
        registry.register("updraft_start_seconds", help, metrics.start_seconds.clone());
        let help = "Boots that failed and were tried again";
        registry.register("updraft_boot_retries", help, metrics.boot_retries.clone());
        let help = "Time of a machine's suspend, by stage";
        registry.register("updraft_suspend_seconds", help, metrics.suspend_seconds.clone());
        let help = "Suspends that failed; the machine kept running or was stopped";
        registry.register("updraft_suspend_failures", help, metrics.suspend_failures.clone());
        let help = "Snapshots that could not be restored; the machine was booted";
        registry.register("updraft_resume_failures", help, metrics.resume_failures.clone());
        let help = "Starts by how they came about";
        registry.register("updraft_starts", help, metrics.starts.clone());
        let help = "Templates that were to be made";
        registry.register("updraft_template_builds", help, metrics.template_builds.clone());
        metrics
    }

    pub(crate) fn stages(&self, stages: &[(String, f64)]) {
        observe(&self.start_seconds, stages);
    }

    pub(crate) fn suspend(&self, stages: &[(String, f64)]) {
        observe(&self.suspend_seconds, stages);
    }

    pub(crate) fn start(&self, origin: &'static str) {
        self.starts.get_or_create(&OriginLabel { origin }).inc();
    }

    pub(crate) fn template(&self, made: bool) {
        let result = if made { "ok" } else { "failed" };
        self.template_builds.get_or_create(&ResultLabel { result }).inc();
    }
}

fn observe(family: &StageFamily, stages: &[(String, f64)]) {
    for (stage, ms) in stages {
        family.get_or_create(&StageLabel { stage: stage.clone() }).observe(ms / 1e3);
    }
}
