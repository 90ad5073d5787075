//! `config.services[]` and checks.

use super::duration::Span;
use super::forms;
use crate::machines::Extra;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One port of the machine and the outside ports that lead to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    /// `tcp` or `udp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Port the app listens on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_port: Option<u16>,
    /// Outside ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<Port>>,
    /// How much one machine takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Checks that decide whether the machine is routed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Vec<Check>>,
    /// Wake a stopped machine for a request. Absent means true here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autostart: Option<bool>,
    /// What the edge does with an idle machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autostop: Option<Autostop>,
    /// Machines of the primary region that autostop leaves running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_machines_running: Option<u32>,
    /// Seconds without load after which autostop may act on this machine;
    /// an Updraft addition. Absent means the interval rule alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autostop_after_seconds: Option<u32>,
    /// Answer a request that woke the machine with a `Server-Timing` header that
    /// shows where the time went; an Updraft addition. Absent means no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_timing: Option<bool>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Outside port of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Port {
    /// One port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// First of a range, in place of `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_port: Option<u16>,
    /// Last of a range, in place of `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_port: Option<u16>,
    /// Subset of `http`, `tls`, `pg_tls`, `proxy_proto`; empty is raw TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handlers: Option<Vec<String>>,
    /// Answer plain HTTP with a redirect to HTTPS; only with `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_https: Option<bool>,
    /// How the port uses HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_options: Option<HttpOptions>,
    /// Fields this version does not know (tls_options, …).
    #[serde(flatten)]
    pub extra: Extra,
}

/// How a port uses HTTP
/// (<https://fly.io/docs/reference/configuration/#services-ports-http_options>).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HttpOptions {
    /// Seconds without a byte after which a connection is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<u64>,
    /// Changes of answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<HttpResponseOptions>,
    /// Fields this version does not know (compress, …).
    #[serde(flatten)]
    pub extra: Extra,
}

/// Changes of the answers of a port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HttpResponseOptions {
    /// Add none of the edge's own header fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pristine: Option<bool>,
    /// Fields this version does not know (headers, …).
    #[serde(flatten)]
    pub extra: Extra,
}

/// How much one machine takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Concurrency {
    /// `connections` (default) or `requests`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// From here on other machines are preferred (20).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_limit: Option<u32>,
    /// Never more than this (unlimited).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard_limit: Option<u32>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A health check, run by the machine's host (<https://fly.io/docs/reference/health-checks/>).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// `tcp`, `http` or `script`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Port, for named checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Time between two checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// Time one check may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Time after the start in which failures do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<Span>,
    /// HTTP method; absent means GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Path of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// `informational`, `readiness` or `liveness`; absent means `readiness` for checks of a
    /// service and `informational` for others.
    #[serde(rename = "kind", default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Command of a `script` check, run in the guest; 0 is success. An Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Header fields of the request.
    #[serde(
        default,
        deserialize_with = "forms::check_headers",
        skip_serializing_if = "Option::is_none"
    )]
    pub headers: Option<Vec<CheckHeader>>,
    /// Do not verify the certificate of an `https` check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_skip_verify: Option<bool>,
    /// Name in the certificate of an `https` check; absent means the machine's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
    /// Successes in a row until it passes; absent means 1. An Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_threshold: Option<u32>,
    /// Failures in a row until it is critical; absent means 3 for `liveness`, else 1. An
    /// Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<u32>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A header field of a check's request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckHeader {
    /// Name.
    #[serde(default)]
    pub name: String,
    /// One field each.
    #[serde(default)]
    pub values: Vec<String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What the edge does with an idle machine. Read from a boolean or a word and
/// written as `false`, `true` or `"suspend"`, as the platform does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Autostop {
    /// Leave it running.
    #[default]
    Off,
    /// Stop it.
    Stop,
    /// Suspend it.
    Suspend,
}

impl JsonSchema for Autostop {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Autostop".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "What the edge does with an idle machine.",
            "anyOf": [{ "type": "boolean" }, { "enum": ["off", "stop", "suspend"] }],
        })
    }
}

impl Serialize for Autostop {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => to.serialize_bool(false),
            Self::Stop => to.serialize_bool(true),
            Self::Suspend => to.serialize_str("suspend"),
        }
    }
}

impl<'de> Deserialize<'de> for Autostop {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Bool(bool),
            Word(String),
        }
        match Written::deserialize(from)? {
            Written::Bool(false) => Ok(Self::Off),
            Written::Bool(true) => Ok(Self::Stop),
            Written::Word(word) => match word.as_str() {
                "off" => Ok(Self::Off),
                "stop" => Ok(Self::Stop),
                "suspend" => Ok(Self::Suspend),
                other => Err(serde::de::Error::custom(format!(
                    "autostop must be off, stop, suspend or a boolean, not {other:?}"
                ))),
            },
        }
    }
}
