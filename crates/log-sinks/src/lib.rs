//! `worker::ports::LogSink` for the receivers that log lines are exported to: syslog over TCP and
//! TLS, OTLP over HTTP, and Loki.
//!
//! `settings` reads the file that names them. A sink only delivers; what is delivered, when, and
//! again after a failure is decided by the worker.

mod http;
mod labels;
mod loki;
mod otlp;
mod settings;
mod syslog;
mod tls;

pub use settings::{SinkSettings, parse};

use std::sync::Arc;
use worker::ports::{LogSink, PortError};

/// Makes the sinks of the settings. `host` is the name of this host.
///
/// # Errors
/// A file that the settings name cannot be used.
pub fn open(all: &[SinkSettings], host: &str) -> Result<Vec<Arc<dyn LogSink>>, PortError> {
    all.iter().map(|settings| open_one(settings, host)).collect()
}

fn open_one(settings: &SinkSettings, host: &str) -> Result<Arc<dyn LogSink>, PortError> {
    let common = settings.common.clone();
    Ok(match &settings.target {
        settings::Target::Syslog(target) => {
            Arc::new(syslog::Syslog::open(common, target.clone(), host)?)
        }
        settings::Target::Otlp(target) => Arc::new(otlp::Otlp::open(common, target, host)?),
        settings::Target::Loki(target) => Arc::new(loki::Loki::open(common, target)?),
    })
}
