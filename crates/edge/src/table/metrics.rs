//! Metrics that follow from the table at the moment of a scrape.

use crate::table::shared::SharedTable;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// Load of each machine and held requests of each app.
#[derive(Debug)]
struct TableMetrics {
    table: Arc<SharedTable>,
    region: String,
    host: String,
}

/// Registers the metrics of `table`, as an edge in `region` on `host` has them.
pub(crate) fn register(registry: &mut Registry, table: Arc<SharedTable>, region: &str, host: &str) {
    let (region, host) = (region.to_owned(), host.to_owned());
    registry.register_collector(Box::new(TableMetrics { table, region, host }));
}

impl Collector for TableMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let entries: Vec<_> =
            self.table.names().iter().filter_map(|name| self.table.get(name)).collect();
        let text = "Requests and connections in flight";
        let mut out =
            encoder.encode_descriptor("fly_app_concurrency", text, None, MetricType::Gauge)?;
        for entry in &entries {
            let app = entry.load();
            for row in &app.rows {
                let instance = row.machine.id.to_string();
                let host = format!("{:04x}", row.machine.host.id.0);
                let labels = [
                    ("app", &*app.shared.name),
                    ("instance", &instance),
                    ("region", &row.route.region),
                    ("host", &host),
                ];
                let load = ConstGauge::new(i64::from(row.machine.in_flight()));
                load.encode(out.encode_family(&labels)?)?;
            }
        }
        let text = "Requests held";
        let mut out =
            encoder.encode_descriptor("updraft_edge_held", text, None, MetricType::Gauge)?;
        for entry in &entries {
            let app = entry.load();
            let labels =
                [("app", &*app.shared.name), ("region", &*self.region), ("host", &*self.host)];
            let held = app.shared.waiting.load(SeqCst) as i64;
            ConstGauge::new(held).encode(out.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
