//! OTLP over HTTP with JSON (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).

use crate::http::Http;
use crate::settings::{Common, HttpTarget};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use worker::ports::{BatchLimits, ExportedLine, LogSink, PortError, SendError, Taken};

/// A receiver of OTLP, such as a collector.
pub(crate) struct Otlp {
    common: Common,
    http: Http,
    host: String,
}

/// Labels that are attributes of the resource, by the names of the semantic conventions
/// (<https://opentelemetry.io/docs/specs/semconv/resource/>).
const RESOURCE: &[(&str, &str)] =
    &[("app", "service.name"), ("machine", "service.instance.id"), ("region", "cloud.region")];

impl Otlp {
    pub(crate) fn open(common: Common, target: &HttpTarget, host: &str) -> Result<Self, PortError> {
        Ok(Self { common, http: Http::open(target)?, host: host.to_owned() })
    }

    fn body(&self, lines: &[ExportedLine]) -> Value {
        let mut resources: BTreeMap<BTreeMap<&str, &str>, Vec<Value>> = BTreeMap::new();
        for line in lines {
            let mut labels = self.common.labels.of(line);
            let mut resource = BTreeMap::from([("host.name", self.host.as_str())]);
            for (label, name) in RESOURCE {
                resource.extend(labels.remove(label).map(|value| (*name, value)));
            }
            resources.entry(resource).or_default().push(record(line, &labels));
        }
        let resources: Vec<Value> = resources
            .into_iter()
            .map(|(resource, records)| {
                json!({
                    "resource": { "attributes": attributes(&resource) },
                    "scopeLogs": [{ "scope": { "name": "updraft" }, "logRecords": records }],
                })
            })
            .collect();
        json!({ "resourceLogs": resources })
    }
}

fn record(line: &ExportedLine, labels: &BTreeMap<&str, &str>) -> Value {
    let time = line.entry.timestamp.max(0).to_string();
    // Numbers: <https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber>.
    let severity = match line.entry.level.as_str() {
        "debug" => 5,
        "warn" => 13,
        "error" => 17,
        _ => 9,
    };
    json!({
        "timeUnixNano": time,
        "observedTimeUnixNano": time,
        "severityNumber": severity,
        "severityText": line.entry.level,
        "body": { "stringValue": line.entry.message },
        "attributes": attributes(labels),
    })
}

fn attributes(labels: &BTreeMap<&str, &str>) -> Vec<Value> {
    let attribute = |(key, value)| json!({ "key": key, "value": { "stringValue": value } });
    labels.iter().map(attribute).collect()
}

/// The records that a receiver has refused although it answers with success.
fn refused(answer: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let count = &answer["partialSuccess"]["rejectedLogRecords"];
    // 64-bit numbers are strings in this encoding; some receivers send numbers.
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0)
}

#[async_trait]
impl LogSink for Otlp {
    fn name(&self) -> &str {
        &self.common.name
    }

    fn limits(&self) -> BatchLimits {
        self.common.limits
    }

    async fn send(&self, lines: &[ExportedLine]) -> Result<Taken, SendError> {
        let answer = self.http.post(&self.body(lines)).await?;
        Ok(Taken { refused: refused(&answer).min(lines.len() as u64) })
    }
}
