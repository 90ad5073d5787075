//! Labels of a line: where it comes from.

use std::collections::BTreeMap;
use worker::ports::ExportedLine;

/// A label that lines have by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Label {
    /// Name of the app.
    App,
    /// Id of the machine; lines about the app itself have none.
    Machine,
    Region,
    Provider,
    Level,
    /// Of a machine with several.
    Container,
    /// Of a machine with several.
    Process,
}

impl Label {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::App,
        Self::Machine,
        Self::Region,
        Self::Provider,
        Self::Level,
        Self::Container,
        Self::Process,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Machine => "machine",
            Self::Region => "region",
            Self::Provider => "provider",
            Self::Level => "level",
            Self::Container => "container",
            Self::Process => "process",
        }
    }

    fn of(self, line: &ExportedLine) -> Option<&str> {
        let entry = &line.entry;
        let value = match self {
            Self::App => &line.app,
            Self::Machine => &entry.instance,
            Self::Region => &entry.region,
            Self::Provider => &entry.provider,
            Self::Level => &entry.level,
            Self::Container | Self::Process => entry.meta.get(self.name())?,
        };
        Some(value.as_str()).filter(|value| !value.is_empty())
    }
}

/// The labels that a sink gives to lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labels {
    /// Of the line.
    pub(crate) own: Vec<Label>,
    /// The same for all.
    pub(crate) fixed: BTreeMap<String, String>,
}

impl Labels {
    pub(crate) fn of<'a>(&'a self, line: &'a ExportedLine) -> BTreeMap<&'a str, &'a str> {
        let own = self.own.iter().filter_map(|label| Some((label.name(), label.of(line)?)));
        let fixed = self.fixed.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        fixed.chain(own).collect()
    }
}
