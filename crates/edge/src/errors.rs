//! The edge's own answers: a code, a status, and what to do.

use crate::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// Code of an answer the edge gives itself. `P…` are Fly's (P058–P063), `U…` ours.
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

    fn hint(self) -> &'static str {
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
            Self::Pr01 => (
                "PR01",
                S::SERVICE_UNAVAILABLE,
                "start a machine, uncordon one, or set autostart = true",
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
        }
    }
}

/// Why a request got an answer of the edge itself.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) detail: String,
    pub(crate) app: Option<String>,
    pub(crate) machine: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), app: None, machine: None }
    }

    pub(crate) fn of_app(mut self, app: &str) -> Self {
        self.app.get_or_insert_with(|| app.to_owned());
        self
    }

    pub(crate) fn on(mut self, machine: &str) -> Self {
        self.machine = Some(machine.to_owned());
        self
    }

    /// The line for the app's log.
    pub(crate) fn line(&self) -> String {
        format!("[{}] {}", self.code.text(), self.detail)
    }

    /// The answer, JSON if `json`.
    pub(crate) fn response(&self, request_id: &str, json: bool) -> Response<Body> {
        let code = self.code;
        let (kind, text) = if json {
            let body = serde_json::json!({
                "error": self.detail, "code": code.text(), "app": self.app,
                "machine": self.machine, "request_id": request_id, "hint": code.hint(),
            });
            ("application/json", format!("{body}\n"))
        } else {
            let name = |what: &str, of: &Option<String>| {
                of.as_ref().map(|name| format!("{what}: {name}\n")).unwrap_or_default()
            };
            let (app, machine) = (name("app", &self.app), name("machine", &self.machine));
            let (detail, hint, code) = (&self.detail, code.hint(), code.text());
            let text =
                format!("{code}: {detail}\n{app}{machine}request: {request_id}\nhint: {hint}\n");
            ("text/plain; charset=utf-8", text)
        };
        let mut response = Response::new(Body::full(Bytes::from(text)));
        *response.status_mut() = code.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if code.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn bodies_name_code_app_machine_request_and_remedy() {
        let failure = Failure::new(Code::Pc01, "port 8080 refused").of_app("web").on("m1");
        let read = async |json| {
            let body = failure.response("01X-local", json).into_body();
            String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
        };
        expect_test::expect![[r#"
            PC01: port 8080 refused
            app: web
            machine: m1
            request: 01X-local
            hint: see that the app listens on 0.0.0.0 and internal_port
        "#]]
        .assert_eq(&read(false).await);
        expect_test::expect![[r#"
            {"app":"web","code":"PC01","error":"port 8080 refused","hint":"see that the app listens on 0.0.0.0 and internal_port","machine":"m1","request_id":"01X-local"}
        "#]]
        .assert_eq(&read(true).await);
    }
}
