//! Codes of the edge's own answers: status and remedy of each.

use http::StatusCode;

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
    /// As written in bodies and logs.
    pub fn text(self) -> &'static str {
        self.row().0
    }

    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        self.row().1
    }

    pub(crate) fn hint(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::Ur01 => ("UR01", S::NOT_FOUND, "check the host name: it must be <app>.<domain>"),
            Self::Ur02 => {
                ("UR02", S::NOT_FOUND, "give the app an http service on this port (`services`)")
            }
            Self::Ur03 => ("UR03", S::BAD_REQUEST, "send one Host header with a host name"),
            Self::Ur04 => (
                "UR04",
                S::GATEWAY_TIMEOUT,
                "look at the app's logs; raise http_options.idle_timeout if it is only slow",
            ),
            Self::Ur05 => ("UR05", S::BAD_REQUEST, "send an ordinary HTTP request"),
            Self::Ur06 => {
                ("UR06", S::SERVICE_UNAVAILABLE, "repeat the request: the edge is shutting down")
            }
            Self::Pr01 => (
                "PR01",
                S::SERVICE_UNAVAILABLE,
                "create or start a machine, uncordon one, set autostart = true, or see why health checks \
                 fail",
            ),
            Self::Pr02 => ("PR02", S::SERVICE_UNAVAILABLE, "repeat the request"),
            Self::Pr03 => ("PR03", S::BAD_GATEWAY, "look at the app's logs and internal_port"),
            Self::Pm03 => (
                "PM03",
                S::GATEWAY_TIMEOUT,
                "see that the app listens on 0.0.0.0 and on internal_port, and how long it starts",
            ),
            Self::Pm07 => ("PM07", S::SERVICE_UNAVAILABLE, "look at the machine's events"),
            Self::Pm08 => ("PM08", S::SERVICE_UNAVAILABLE, "look at the machine's state"),
            Self::Pl01 | Self::Pl02 => (
                if matches!(self, Self::Pl01) { "PL01" } else { "PL02" },
                S::SERVICE_UNAVAILABLE,
                "add machines or raise concurrency.hard_limit",
            ),
            Self::Pc01 => {
                ("PC01", S::BAD_GATEWAY, "see that the app listens on 0.0.0.0 and internal_port")
            }
            Self::Pc03 => ("PC03", S::BAD_GATEWAY, "look at the app's logs"),
            Self::Pc05 => ("PC05", S::GATEWAY_TIMEOUT, "look at the machine's load"),
            Self::Pc06 => ("PC06", S::BAD_GATEWAY, "look at the app's logs"),
            Self::Pu02 => ("PU02", S::BAD_GATEWAY, "look at the app's logs"),
            Self::Pu03 => ("PU03", S::BAD_GATEWAY, "see that the machine's host is up"),
        }
    }
}
