//! Metrics of the exports.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// A sink, by its name in the settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabel {
    sink: String,
}

/// Why lines of a sink are lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LossLabel {
    sink: String,
    reason: &'static str,
}

/// Metrics of all sinks.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExportMetrics {
    lines: Family<SinkLabel, Counter>,
    batches: Family<SinkLabel, Counter>,
    failures: Family<SinkLabel, Counter>,
    lost: Family<LossLabel, Counter>,
    behind: Family<SinkLabel, Gauge>,
}

impl ExportMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Log lines that a sink has taken";
        registry.register("updraft_log_export_lines", help, metrics.lines.clone());
        let help = "Deliveries of log lines that a sink has taken";
        registry.register("updraft_log_export_batches", help, metrics.batches.clone());
        let help = "Deliveries of log lines that failed and are tried again";
        registry.register("updraft_log_export_failures", help, metrics.failures.clone());
        let help = "Log lines that never reach a sink: removed before, or refused by it";
        registry.register("updraft_log_export_lost_lines", help, metrics.lost.clone());
        let help = "Log lines that a sink has not got yet";
        registry.register("updraft_log_export_behind_lines", help, metrics.behind.clone());
        metrics
    }

    /// The metrics of one sink.
    pub(super) fn of(&self, sink: &str) -> SinkMetrics {
        let label = SinkLabel { sink: sink.to_owned() };
        let loss =
            |reason| self.lost.get_or_create_owned(&LossLabel { sink: sink.to_owned(), reason });
        SinkMetrics {
            lines: self.lines.get_or_create_owned(&label),
            batches: self.batches.get_or_create_owned(&label),
            failures: self.failures.get_or_create_owned(&label),
            removed: loss("removed"),
            refused: loss("refused"),
            behind: self.behind.get_or_create_owned(&label),
        }
    }
}

/// Metrics of one sink.
#[derive(Debug)]
pub(super) struct SinkMetrics {
    pub(super) lines: Counter,
    pub(super) batches: Counter,
    pub(super) failures: Counter,
    /// Lost: removed before they were exported.
    pub(super) removed: Counter,
    /// Lost: refused by the receiver.
    pub(super) refused: Counter,
    pub(super) behind: Gauge,
}
