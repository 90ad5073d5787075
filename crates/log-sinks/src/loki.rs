//! Loki's push API
//! (<https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs>).

use crate::http::Http;
use crate::settings::{Common, HttpTarget};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use worker::ports::{BatchLimits, ExportedLine, LogSink, PortError, SendError, Taken};

/// A Loki server. It drops lines that it has already, by stream, time and text.
pub(crate) struct Loki {
    common: Common,
    http: Http,
}

impl Loki {
    pub(crate) fn open(common: Common, target: &HttpTarget) -> Result<Self, PortError> {
        Ok(Self { common, http: Http::open(target)? })
    }

    fn body(&self, lines: &[ExportedLine]) -> Value {
        let mut streams: BTreeMap<BTreeMap<&str, &str>, Vec<Value>> = BTreeMap::new();
        for line in lines {
            let values = streams.entry(self.common.labels.of(line)).or_default();
            values.push(json!([line.entry.timestamp.max(0).to_string(), line.entry.message]));
        }
        let streams: Vec<Value> = streams
            .into_iter()
            .map(|(stream, values)| json!({ "stream": stream, "values": values }))
            .collect();
        json!({ "streams": streams })
    }
}

#[async_trait]
impl LogSink for Loki {
    fn name(&self) -> &str {
        &self.common.name
    }

    fn limits(&self) -> BatchLimits {
        self.common.limits
    }

    async fn send(&self, lines: &[ExportedLine]) -> Result<Taken, SendError> {
        self.http.post(&self.body(lines)).await.map(|_| Taken::default())
    }
}
