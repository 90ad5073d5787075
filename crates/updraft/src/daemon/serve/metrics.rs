//! What `/metrics` answers, and to whom.

use crate::settings::MetricsAccess;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use control::apps::Readable;
use control::http_api::HttpApi;
use model::id::AppId;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::collections::BTreeSet;
use subtle::ConstantTimeEq;
use worker::Worker;

const END: &str = "# EOF\n";
const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of this process, and of the machines of its host.
pub(in crate::daemon) struct Metrics {
    registry: Registry,
    /// Metrics of the machines of this process's host, if it has one.
    machines: Option<Worker>,
    /// Knows which apps a token may read.
    api: Option<HttpApi>,
    access: MetricsAccess,
}

impl Metrics {
    pub(in crate::daemon) fn new(
        registry: Registry,
        machines: Option<Worker>,
        api: Option<HttpApi>,
        access: MetricsAccess,
    ) -> Self {
        Self { registry, machines, api, access }
    }

    pub(super) async fn answer(&self, headers: &HeaderMap) -> Response {
        let text = match self.readable(headers).await {
            None => {
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                let text = "a token is needed: send `Authorization: Bearer <token>`, with a token of the \
                            API or that of the setting metrics.token\n";
                return (StatusCode::UNAUTHORIZED, challenge, text).into_response();
            }
            Some(Readable::All) => self.all().await,
            Some(Readable::Apps(apps)) => Ok(self.of_apps(Some(&apps)).await + END),
        };
        match text {
            Ok(text) => ([(header::CONTENT_TYPE, TYPE)], text).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }

    async fn all(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        // Before the end of the exposition.
        let end = text.rfind(END).unwrap_or(text.len());
        text.insert_str(end, &self.of_apps(None).await);
        Ok(text)
    }

    async fn of_apps(&self, apps: Option<&BTreeSet<AppId>>) -> String {
        match &self.machines {
            Some(machines) => machines.machine_metrics(apps).await,
            None => String::new(),
        }
    }

    /// What the client may read; `None` without a valid token.
    async fn readable(&self, headers: &HeaderMap) -> Option<Readable> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match &self.access {
            MetricsAccess::Open => return Some(Readable::All),
            MetricsAccess::Token(token) if is_token(given, token) => return Some(Readable::All),
            MetricsAccess::Token(_) | MetricsAccess::AdminToken => {}
        }
        self.api.as_ref()?.readable_apps(given?).await.ok()
    }
}

/// Whether the header has this token. In constant time: how much of a guess is right must not
/// show.
fn is_token(header: Option<&str>, token: &str) -> bool {
    let Some((scheme, given)) = header.and_then(|value| value.split_once(' ')) else {
        return false;
    };
    scheme.eq_ignore_ascii_case("bearer") && given.trim().as_bytes().ct_eq(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn metrics_want_a_token_unless_they_are_open() {
        let ask = async |access: MetricsAccess, header: Option<&str>| {
            let metrics = Metrics::new(Registry::default(), None, None, access);
            let mut headers = HeaderMap::new();
            if let Some(value) = header {
                headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            }
            metrics.answer(&headers).await.status().as_u16()
        };
        let own = || MetricsAccess::Token("0123456789abcdef".into());
        for (access, header, status) in [
            (MetricsAccess::AdminToken, None, 401),
            (MetricsAccess::AdminToken, Some("Bearer wrong"), 401),
            (own(), Some("Bearer another"), 401),
            (own(), Some("0123456789abcdef"), 401),
            (own(), Some("bearer 0123456789abcdef"), 200),
            (MetricsAccess::Open, None, 200),
        ] {
            assert_eq!(ask(access.clone(), header).await, status, "{access:?} {header:?}");
        }
    }
}
