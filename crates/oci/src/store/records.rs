//! The records of the store, each a JSON file.

use crate::manifest::labels;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use worker::ports::ImageConfig;

/// Where a name comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NameSource {
    /// From an import. No registry is asked for it.
    Imported,
    /// From a registry, which is asked again at each `resolve`.
    Pulled,
}

/// A name and the digest that it refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameRecord {
    pub(crate) name: String,
    pub(crate) digest: String,
    #[serde(rename = "origin")]
    pub(crate) source: NameSource,
}

/// An image of the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) digest: String,
    pub(crate) created_ms: u64,
    pub(crate) size: u64,
    pub(crate) config_digest: String,
    pub(crate) run: ConfigRecord,
}

/// [`ImageConfig`] in its stored form.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ConfigRecord {
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: Vec<String>,
    user: String,
    workdir: String,
    stop_signal: String,
    labels: BTreeMap<String, String>,
}

impl ConfigRecord {
    /// Removes labels beyond the limits, which earlier releases kept.
    pub(crate) fn bound_labels(&mut self) {
        labels::bound(&mut self.labels);
    }
}

impl From<ImageConfig> for ConfigRecord {
    fn from(config: ImageConfig) -> Self {
        let ImageConfig { entrypoint, cmd, env, user, workdir, stop_signal, labels } = config;
        Self { entrypoint, cmd, env, user, workdir, stop_signal, labels }
    }
}

impl From<ConfigRecord> for ImageConfig {
    fn from(record: ConfigRecord) -> Self {
        let ConfigRecord { entrypoint, cmd, env, user, workdir, stop_signal, labels } = record;
        Self { entrypoint, cmd, env, user, workdir, stop_signal, labels }
    }
}
