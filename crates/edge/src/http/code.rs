//! Codes of the edge's own answers: status and remedy of each.

use http::StatusCode;

/// One code as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As written in bodies and logs.
    pub code: &'static str,
    /// The status of the answer.
    pub status: StatusCode,
    /// What it means.
    pub meaning: &'static str,
    /// What to do next.
    pub remedy: &'static str,
}

const fn entry(
    code: &'static str,
    status: StatusCode,
    meaning: &'static str,
    remedy: &'static str,
) -> Entry {
    Entry { code, status, meaning, remedy }
}

/// Code of an answer the edge gives itself. `P…` are those of Fly's proxy
/// (fly.io/docs/monitoring/error-codes), `U…` are Updraft's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The host names no app.
    Ur01,
    /// The app has no HTTP service on this port.
    Ur02,
    /// The request has no usable host.
    Ur03,
    /// The app was silent for longer than the idle timeout.
    Ur04,
    /// The request cannot be forwarded.
    Ur05,
    /// The edge is shutting down.
    Ur06,
    /// No healthy machine.
    Pr01,
    /// The machine is gone.
    Pr02,
    /// No candidate left after retries.
    Pr03,
    /// The machine did not start and listen in time.
    Pm03,
    /// The machine could not be started.
    Pm07,
    /// The machine's state does not allow a start.
    Pm08,
    /// All machines at their hard limit of connections.
    Pl01,
    /// All machines at their hard limit of requests.
    Pl02,
    /// The app refused the connection.
    Pc01,
    /// The app reset the connection.
    Pc03,
    /// The connection attempt timed out.
    Pc05,
    /// Another error on connecting.
    Pc06,
    /// The app closed the connection before it answered.
    Pu02,
    /// The machine's host cannot be asked.
    Pu03,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 20] = [
        Self::Ur01,
        Self::Ur02,
        Self::Ur03,
        Self::Ur04,
        Self::Ur05,
        Self::Ur06,
        Self::Pr01,
        Self::Pr02,
        Self::Pr03,
        Self::Pm03,
        Self::Pm07,
        Self::Pm08,
        Self::Pl01,
        Self::Pl02,
        Self::Pc01,
        Self::Pc03,
        Self::Pc05,
        Self::Pc06,
        Self::Pu02,
        Self::Pu03,
    ];

    /// As written in bodies and logs.
    pub fn text(self) -> &'static str {
        self.entry().code
    }

    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        self.entry().status
    }

    pub(crate) fn hint(self) -> &'static str {
        self.entry().remedy
    }

    /// What clients see of it.
    pub const fn entry(self) -> Entry {
        use StatusCode as S;
        match self {
            Self::Ur01 => entry(
                "UR01",
                S::NOT_FOUND,
                "The host names no app.",
                "check the host name: it must be <app>.<domain>",
            ),
            Self::Ur02 => entry(
                "UR02",
                S::NOT_FOUND,
                "The app has no HTTP service on this port.",
                "give the app an http service on this port (`services`)",
            ),
            Self::Ur03 => entry(
                "UR03",
                S::BAD_REQUEST,
                "The request has no usable host.",
                "send one Host header with a host name",
            ),
            Self::Ur04 => entry(
                "UR04",
                S::GATEWAY_TIMEOUT,
                "The app was silent for longer than the idle timeout.",
                "look at the app's logs; raise http_options.idle_timeout if it is only slow",
            ),
            Self::Ur05 => entry(
                "UR05",
                S::BAD_REQUEST,
                "The request cannot be forwarded.",
                "send an ordinary HTTP request",
            ),
            Self::Ur06 => entry(
                "UR06",
                S::SERVICE_UNAVAILABLE,
                "The edge is shutting down.",
                "repeat the request: the edge is shutting down",
            ),
            Self::Pr01 => entry(
                "PR01",
                S::SERVICE_UNAVAILABLE,
                "No healthy machine.",
                "create or start a machine, uncordon one, set autostart = true, or see why health checks \
                 fail",
            ),
            Self::Pr02 => {
                entry("PR02", S::SERVICE_UNAVAILABLE, "The machine is gone.", "repeat the request")
            }
            Self::Pr03 => entry(
                "PR03",
                S::BAD_GATEWAY,
                "No candidate left after retries.",
                "look at the app's logs and internal_port",
            ),
            Self::Pm03 => entry(
                "PM03",
                S::GATEWAY_TIMEOUT,
                "The machine did not start and listen in time.",
                "see that the app listens on 0.0.0.0 and on internal_port, and how long it starts",
            ),
            Self::Pm07 => entry(
                "PM07",
                S::SERVICE_UNAVAILABLE,
                "The machine could not be started.",
                "look at the machine's events",
            ),
            Self::Pm08 => entry(
                "PM08",
                S::SERVICE_UNAVAILABLE,
                "The machine's state does not allow a start.",
                "look at the machine's state",
            ),
            Self::Pl01 => entry(
                "PL01",
                S::SERVICE_UNAVAILABLE,
                "All machines at their hard limit of connections.",
                "add machines or raise concurrency.hard_limit",
            ),
            Self::Pl02 => entry(
                "PL02",
                S::SERVICE_UNAVAILABLE,
                "All machines at their hard limit of requests.",
                "add machines or raise concurrency.hard_limit",
            ),
            Self::Pc01 => entry(
                "PC01",
                S::BAD_GATEWAY,
                "The app refused the connection.",
                "see that the app listens on 0.0.0.0 and internal_port",
            ),
            Self::Pc03 => entry(
                "PC03",
                S::BAD_GATEWAY,
                "The app reset the connection.",
                "look at the app's logs",
            ),
            Self::Pc05 => entry(
                "PC05",
                S::GATEWAY_TIMEOUT,
                "The connection attempt timed out.",
                "look at the machine's load",
            ),
            Self::Pc06 => entry(
                "PC06",
                S::BAD_GATEWAY,
                "Another error on connecting.",
                "look at the app's logs",
            ),
            Self::Pu02 => entry(
                "PU02",
                S::BAD_GATEWAY,
                "The app closed the connection before it answered.",
                "look at the app's logs",
            ),
            Self::Pu03 => entry(
                "PU03",
                S::BAD_GATEWAY,
                "The machine's host cannot be asked.",
                "see that the machine's host is up",
            ),
        }
    }
}
