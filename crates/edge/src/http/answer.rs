//! Renders a failure as the edge's own answer: a code, a status, and what to do.

use crate::http::body::Body;
use crate::http::failure::Failure;
use crate::http::headers::ERROR_CODE;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

impl Failure {
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
            let machine = self.machine.map(|id| id.to_string());
            let (app, machine) = (name("app", &self.app), name("machine", &machine));
            let (detail, hint, code) = (&self.detail, code.hint(), code.text());
            let text =
                format!("{code}: {detail}\n{app}{machine}request: {request_id}\nhint: {hint}\n");
            ("text/plain; charset=utf-8", text)
        };
        let mut response = Response::new(Body::full(Bytes::from(text)));
        *response.status_mut() = code.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(ERROR_CODE, HeaderValue::from_static(code.text()));
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
    use crate::http::code::Code;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn bodies_name_code_app_machine_request_and_remedy() {
        let failure = Failure::new(Code::Pc01, "port 8080 refused")
            .of_app("web")
            .on(crate::table::testing::id("m1"));
        let read = async |json| {
            let response = failure.response("01X-local", json);
            assert_eq!(response.headers()["updraft-error"], "PC01");
            let body = response.into_body();
            String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
        };
        expect_test::expect![[r#"
            PC01: port 8080 refused
            app: web
            machine: 00000000006d31
            request: 01X-local
            hint: see that the app listens on 0.0.0.0 and internal_port
        "#]]
        .assert_eq(&read(false).await);
        expect_test::expect![[r#"
            {"app":"web","code":"PC01","error":"port 8080 refused","hint":"see that the app listens on 0.0.0.0 and internal_port","machine":"00000000006d31","request_id":"01X-local"}
        "#]]
        .assert_eq(&read(true).await);
    }
}
