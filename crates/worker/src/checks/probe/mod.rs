//! One run of a check. Bounds: the check's timeout, and a few KiB of what is read.

mod http;
mod script;
pub(crate) mod tls;

use super::spec::{CheckSpec, Probe};
use crate::agent::Agent;
use crate::context::HostContext;
use guest_protocol::UnitId;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// Bytes of a run's output, and of its answer, that are kept.
const OUTPUT: usize = 1024;
const ANSWER: usize = 4096;

/// The machine that a check is run against.
pub(super) struct Target {
    pub(super) ipv4: Ipv4Addr,
    /// The session with its guest, if there is one.
    pub(super) agent: Option<Arc<Agent>>,
    /// Where its commands run: in the first container, if it has any.
    pub(super) unit: Option<UnitId>,
}

/// The result of one run.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) passed: bool,
    /// In short.
    pub(super) output: String,
    pub(super) request: String,
    pub(super) response: String,
}

/// The outcome of a probe before it is made presentable: whether it passed, its output and
/// the answer.
struct Outcome {
    passed: bool,
    output: Vec<u8>,
    response: Vec<u8>,
}

impl Outcome {
    fn failed(why: impl Into<String>) -> Self {
        let why = why.into().into_bytes();
        Self { passed: false, output: why.clone(), response: why }
    }
}

/// Runs a check once. `None` if the guest cannot be asked now: that is no verdict.
pub(super) async fn run(host: &HostContext, target: &Target, spec: &CheckSpec) -> Option<Attempt> {
    let deadline = Instant::now() + spec.timeout;
    let address = |port: u16| SocketAddrV4::new(target.ipv4, port);
    let (request, outcome) = match &spec.probe {
        Probe::Tcp { port } => {
            let to = address(*port);
            (format!("connect to {to}"), tcp(host, to, deadline).await)
        }
        Probe::Http(http) => {
            let to = address(http.port);
            (http::describe(http, to), http::run(host, http, to, deadline).await)
        }
        Probe::Script { argv } => {
            let agent = target.agent.as_ref()?;
            let outcome = script::run(host, (agent, target.unit), argv, spec.timeout).await?;
            (argv.join(" "), outcome)
        }
    };
    Some(Attempt {
        passed: outcome.passed,
        output: presentable(&outcome.output, OUTPUT),
        request: presentable(request.as_bytes(), ANSWER),
        response: presentable(&outcome.response, ANSWER),
    })
}

async fn tcp(host: &HostContext, to: SocketAddrV4, deadline: Instant) -> Outcome {
    match timeout_at(deadline, host.connector.connect(to)).await {
        Ok(Ok(_)) => {
            let text = format!("connected to {to}").into_bytes();
            Outcome { passed: true, output: text.clone(), response: text }
        }
        Ok(Err(err)) => Outcome::failed(format!("connect to {to}: {err}")),
        Err(_) => Outcome::failed(format!("connect to {to}: no answer within the timeout")),
    }
}

/// What a guest has sent as text: at most `most` bytes, without control characters other
/// than line ends and tabs.
fn presentable(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(most)]);
    let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c };
    let text: String = text.chars().map(shown).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_output_is_short_and_printable() {
        assert_eq!(presentable(b"a\x1b[31m\r\nb\0\xff ", 100), "a [31m \nb \u{fffd}");
        assert_eq!(presentable(&[b'x'; 5000], 1024).len(), 1024);
        assert_eq!(presentable("\u{e9}".repeat(10).as_bytes(), 3), "\u{e9}\u{fffd}");
    }
}
