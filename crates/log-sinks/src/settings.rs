//! The file of sinks: TOML, one `[[sink]]` each. Unknown keys are refused, and all complaints are
//! made at once.

use crate::labels::{Label, Labels};
use camino::Utf8PathBuf;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use worker::ports::BatchLimits;

/// Sinks that a host may have.
const MAX_SINKS: usize = 16;
/// Longest name, and text of a label.
const MAX_NAME: usize = 64;

/// One sink.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    pub(crate) common: Common,
    pub(crate) target: Target,
}

/// What all kinds of sinks have.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) name: String,
    pub(crate) limits: BatchLimits,
    pub(crate) labels: Labels,
}

/// Where lines go.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Syslog(SyslogTarget),
    Otlp(HttpTarget),
    Loki(HttpTarget),
}

/// A receiver of syslog.
#[derive(Clone, Debug)]
pub(crate) struct SyslogTarget {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    pub(crate) ca_file: Option<Utf8PathBuf>,
}

/// A receiver over HTTP.
#[derive(Clone)]
pub(crate) struct HttpTarget {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    /// A file with the value of the header `Authorization`.
    pub(crate) authorization_file: Option<Utf8PathBuf>,
    pub(crate) ca_file: Option<Utf8PathBuf>,
}

impl std::fmt::Debug for HttpTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Headers and the query of the URL may have secrets.
        let host = self.url.host_str();
        f.debug_struct("HttpTarget").field("host", &host).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    sink: Vec<Written>,
}

/// A sink as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(rename = "type")]
    kind: Kind,
    url: Option<String>,
    address: Option<String>,
    authorization_file: Option<Utf8PathBuf>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    ca_file: Option<Utf8PathBuf>,
    labels: Option<Vec<Label>>,
    #[serde(default)]
    extra_labels: BTreeMap<String, String>,
    batch_lines: Option<usize>,
    batch_kib: Option<usize>,
    batch_wait: Option<String>,
    timeout: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Syslog,
    Otlp,
    Loki,
}

/// Reads the text of the file.
///
/// # Errors
/// All complaints. None of them has the value of a header.
pub fn parse(text: &str) -> Result<Vec<SinkSettings>, Vec<String>> {
    // Only the reason and the place: the text around it may have secrets.
    let file: File = toml::from_str(text).map_err(|err| {
        let line = err.span().map_or(1, |at| text[..at.start].lines().count().max(1));
        vec![format!("line {line}: {}", err.message())]
    })?;
    let mut problems = Vec::new();
    if file.sink.len() > MAX_SINKS {
        problems.push(format!("there are more than {MAX_SINKS} sinks"));
    }
    let (mut sinks, mut names) = (Vec::new(), BTreeSet::new());
    for written in file.sink {
        let name = written.name.clone();
        if !names.insert(name.clone()) {
            problems.push(format!("sink {name:?} is there twice"));
        }
        let mut own = Vec::new();
        sinks.extend(sink(written, &mut own));
        problems.extend(own.into_iter().map(|why| format!("sink {name:?}: {why}")));
    }
    if problems.is_empty() { Ok(sinks) } else { Err(problems) }
}

/// `None` only after a complaint.
fn sink(written: Written, p: &mut Vec<String>) -> Option<SinkSettings> {
    let plain = |name: &str| {
        (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    if !plain(&written.name) {
        p.push(format!("name has to be 1 to {MAX_NAME} letters, digits, _ and -"));
    }
    let common = Common {
        name: written.name.clone(),
        limits: limits(&written, p),
        labels: labels(&written, p),
    };
    let target = match written.kind {
        Kind::Syslog => Target::Syslog(syslog(&written, p)?),
        Kind::Otlp => Target::Otlp(http(&written, p)?),
        Kind::Loki => Target::Loki(http(&written, p)?),
    };
    Some(SinkSettings { common, target })
}

fn limits(written: &Written, p: &mut Vec<String>) -> BatchLimits {
    let mut number = |key, given: Option<usize>, default, most| {
        let value = given.unwrap_or(default);
        if !(1..=most).contains(&value) {
            p.push(format!("{key} has to be 1 to {most}"));
        }
        value
    };
    let lines = number("batch_lines", written.batch_lines, 1000, 10_000);
    let bytes = number("batch_kib", written.batch_kib, 1024, 16 * 1024) << 10;
    let mut time = |key, given: &Option<String>, default, most| {
        let Some(text) = given else { return default };
        let parsed = humantime::parse_duration(text).ok().filter(|time| *time <= most);
        parsed.filter(|time| !time.is_zero()).unwrap_or_else(|| {
            p.push(format!("{key} has to be a time such as 5s, at most {most:?}"));
            default
        })
    };
    let wait =
        time("batch_wait", &written.batch_wait, Duration::from_secs(1), Duration::from_secs(60));
    let timeout =
        time("timeout", &written.timeout, Duration::from_secs(10), Duration::from_secs(300));
    BatchLimits { lines, bytes, wait, timeout }
}

fn labels(written: &Written, p: &mut Vec<String>) -> Labels {
    // The rule of Prometheus and Loki.
    let valid = |name: &str| {
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        first
            && name.len() <= MAX_NAME
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    for (name, value) in &written.extra_labels {
        if !valid(name) || value.is_empty() || value.len() > MAX_NAME || value.contains('\n') {
            p.push(format!(
                "extra_labels.{name} has to be a name of letters, digits and _ with a text of 1 to \
                 {MAX_NAME} bytes"
            ));
        }
        if Label::ALL.iter().any(|label| label.name() == name) {
            p.push(format!("extra_labels.{name} is a label that lines have by themselves"));
        }
    }
    let own = written.labels.clone().unwrap_or_else(|| Label::ALL.to_vec());
    if written.kind == Kind::Loki && !own.contains(&Label::App) {
        p.push("labels has to have app: a stream of Loki needs a label".into());
    }
    Labels { own, fixed: written.extra_labels.clone() }
}

/// Complains about keys that this kind of sink does not have.
fn refuse(kind: &str, keys: &[(&str, bool)], p: &mut Vec<String>) {
    let given = keys.iter().filter(|(_, given)| *given);
    p.extend(given.map(|(key, _)| format!("{key} is no setting of type {kind}")));
}

fn syslog(written: &Written, p: &mut Vec<String>) -> Option<SyslogTarget> {
    let others = [
        ("url", written.url.is_some()),
        ("headers", !written.headers.is_empty()),
        ("authorization_file", written.authorization_file.is_some()),
    ];
    refuse("syslog", &others, p);
    let rule =
        "address has to be tcp://HOST:PORT or tls://HOST:PORT, such as tls://logs.example:6514";
    let address = written.address.as_deref().unwrap_or_default();
    let parsed = address.split_once("://").and_then(|(scheme, rest)| {
        let (host, port) = rest.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let valid = ["tcp", "tls"].contains(&scheme) && !host.is_empty();
        valid.then(|| Some((scheme == "tls", host.to_owned(), port.parse().ok()?)))?
    });
    let Some((tls, host, port)) = parsed else {
        p.push(rule.into());
        return None;
    };
    if written.ca_file.is_some() && !tls {
        p.push("ca_file needs an address of tls://".into());
    }
    Some(SyslogTarget { host, port, tls, ca_file: written.ca_file.clone() })
}

fn http(written: &Written, p: &mut Vec<String>) -> Option<HttpTarget> {
    refuse("otlp and loki", &[("address", written.address.is_some())], p);
    let url = written.url.as_deref().and_then(|url| url.parse::<Url>().ok());
    let is_http = |url: &Url| matches!(url.scheme(), "http" | "https") && url.host().is_some();
    let Some(url) = url.filter(is_http) else {
        p.push("url has to be one of http or https, with the path of the receiver".into());
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        p.push("url must not have a password: name a file with authorization_file".into());
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &written.headers {
        let parsed = name.parse::<HeaderName>().ok().zip(value.parse::<HeaderValue>().ok());
        match parsed {
            Some((name, _)) if name == "authorization" => p.push(
                "headers must not have authorization: name a file with authorization_file".into(),
            ),
            Some((name, value)) => drop(headers.insert(name, value)),
            None => p.push(format!("headers.{name} is no header of HTTP")),
        }
    }
    let (authorization_file, ca_file) =
        (written.authorization_file.clone(), written.ca_file.clone());
    Some(HttpTarget { url, headers, authorization_file, ca_file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file_is_read() {
        let text = r#"
            [[sink]]
            name = "loki"
            type = "loki"
            url = "https://loki.example/loki/api/v1/push"
            authorization_file = "/etc/updraft/loki"
            headers = { X-Scope-OrgID = "tenant" }
            labels = ["app", "level"]
            extra_labels = { env = "prod" }
            batch_lines = 10
            batch_kib = 2
            batch_wait = "200ms"
            timeout = "3s"

            [[sink]]
            name = "siem"
            type = "syslog"
            address = "tls://[::1]:6514"

            [[sink]]
            name = "otel"
            type = "otlp"
            url = "http://127.0.0.1:4318/v1/logs"
        "#;
        let sinks = parse(text).unwrap();
        let limits = BatchLimits {
            lines: 10,
            bytes: 2048,
            wait: Duration::from_millis(200),
            timeout: Duration::from_secs(3),
        };
        assert_eq!(sinks[0].common.limits, limits);
        assert_eq!(sinks[0].common.labels.own, [Label::App, Label::Level]);
        let Target::Syslog(syslog) = &sinks[1].target else { panic!() };
        assert_eq!((syslog.host.as_str(), syslog.port, syslog.tls), ("::1", 6514, true));
        assert_eq!(sinks[2].common.labels.own.len(), 7);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn the_example_of_the_documentation_is_read() {
        let page = include_str!("../../../docs/logs.md");
        let example = page.split("```toml").nth(1).and_then(|rest| rest.split("```").next());
        let names = parse(example.unwrap()).unwrap().into_iter().map(|sink| sink.common.name);
        assert_eq!(names.collect::<Vec<_>>(), ["loki", "collector", "siem"]);
    }

    #[test]
    fn each_mistake_is_named() {
        let sink = |rest: &str| format!("[[sink]]\nname = \"s\"\n{rest}");
        for (rest, why) in [
            ("type = \"kafka\"", "unknown variant `kafka`"),
            ("type = \"loki\"", "url has to be"),
            ("type = \"loki\"\nurl = \"ftp://x/\"", "url has to be"),
            ("type = \"loki\"\nurl = \"http://u:p@x/\"", "must not have a password"),
            ("type = \"loki\"\nurl = \"http://x/\"\nlabels = []", "labels has to have app"),
            ("type = \"loki\"\nurl = \"http://x/\"\nlabels = [\"host\"]", "unknown variant `host`"),
            (
                "type = \"otlp\"\nurl = \"http://x/\"\naddress = \"tcp://x:1\"",
                "address is no setting",
            ),
            (
                "type = \"otlp\"\nurl = \"http://x/\"\nextra_labels = { app = \"x\" }",
                "by themselves",
            ),
            (
                "type = \"otlp\"\nurl = \"http://x/\"\nextra_labels = { \"a b\" = \"x\" }",
                "extra_labels.a b",
            ),
            ("type = \"otlp\"\nurl = \"http://x/\"\nbatch_lines = 0", "batch_lines has to be 1 to"),
            ("type = \"otlp\"\nurl = \"http://x/\"\ntimeout = \"1 year\"", "timeout has to be"),
            ("type = \"otlp\"\nurl = \"http://x/\"\nheaders = { \"a b\" = \"x\" }", "headers.a b"),
            ("type = \"syslog\"\naddress = \"udp://x:514\"", "address has to be tcp://"),
            ("type = \"syslog\"\naddress = \"tcp://x\"", "address has to be tcp://"),
            (
                "type = \"syslog\"\naddress = \"tcp://x:1\"\nca_file = \"/x\"",
                "needs an address of tls",
            ),
            (
                "type = \"syslog\"\naddress = \"tcp://x:1\"\nurl = \"http://x/\"",
                "url is no setting",
            ),
            ("type = \"syslog\"\naddress = \"tcp://x:1\"\ncolour = 1", "unknown field `colour`"),
        ] {
            let problems = parse(&sink(rest)).unwrap_err().join("\n");
            assert!(problems.contains(why), "{rest}: {problems}");
        }
        let secret =
            sink("type = \"loki\"\nurl = \"http://x/\"\nheaders = { Authorization = \"s3cret\" }");
        let kept = secret.replace("Authorization", "X-Key");
        assert!(!format!("{:?}", parse(&kept).unwrap()).contains("s3cret"));
        let problems = parse(&secret).unwrap_err().join("\n");
        assert!(
            problems.contains("authorization_file") && !problems.contains("s3cret"),
            "{problems}"
        );
        let twice = format!("{0}\n{0}", sink("type = \"syslog\"\naddress = \"tcp://x:1\""));
        assert!(parse(&twice).unwrap_err()[0].contains("there twice"));
        let bad =
            parse("[[sink]]\nname = \"a b\"\ntype = \"syslog\"\naddress = \"x\"").unwrap_err();
        assert_eq!(bad.len(), 2, "all at once: {bad:?}");
    }
}
