//! From a request's head to an app: pure.

use http::{HeaderMap, Uri, header};
use std::borrow::Cow;

/// Why a request names no app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoApp {
    /// No `Host`, several, or one that is no host.
    BadHost,
    /// The host is not `<app>.<domain>` of any domain.
    OtherHost,
}

/// The authority a request is for: of an absolute or h2 target, else `Host`.
///
/// # Errors
/// [`NoApp::BadHost`].
pub(crate) fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, NoApp> {
    if let Some(authority) = uri.authority() {
        return Ok(authority.as_str());
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().map_err(|_| NoApp::BadHost),
        _ => Err(NoApp::BadHost),
    }
}

/// The app of `<app>.<domain>`, with or without port and trailing dot, in lower
/// case.
///
/// # Errors
/// [`NoApp`].
pub(crate) fn app_of<'a>(authority: &'a str, domains: &[String]) -> Result<Cow<'a, str>, NoApp> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_';
    if host.is_empty() || !host.bytes().all(label) {
        return Err(NoApp::BadHost);
    }
    for domain in domains {
        let Some(cut) = host.len().checked_sub(domain.len() + 1) else { continue };
        let (app, rest) = host.split_at(cut);
        let matches = rest.starts_with('.') && rest[1..].eq_ignore_ascii_case(domain);
        if matches && !app.is_empty() && !app.contains('.') {
            let lower = !app.bytes().any(|b| b.is_ascii_uppercase());
            let app = if lower { app.into() } else { app.to_ascii_lowercase().into() };
            return Ok(app);
        }
    }
    Err(NoApp::OtherHost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_name_apps() {
        let domains = ["localhost".to_owned(), "fly.example".to_owned()];
        let app = |host: &str| match app_of(host, &domains) {
            Ok(app) => app.into_owned(),
            Err(why) => format!("{why:?}"),
        };
        for (host, want) in [
            ("web.localhost", "web"),
            ("web.localhost:8080", "web"),
            ("WEB.LocalHost.:80", "web"),
            ("web-2.fly.example", "web-2"),
            ("a.web.localhost", "OtherHost"),
            ("localhost", "OtherHost"),
            (".localhost", "OtherHost"),
            ("weblocalhost", "OtherHost"),
            ("web.other", "OtherHost"),
            ("127.0.0.1:8080", "OtherHost"),
            ("", "BadHost"),
            ("we b.localhost", "BadHost"),
            ("[::1]:80", "BadHost"),
            ("wéb.localhost", "BadHost"),
        ] {
            assert_eq!(app(host), want, "{host}");
        }
    }

    #[test]
    fn the_target_beats_the_header_and_two_hosts_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, "a.localhost".parse().unwrap());
        let origin = Uri::from_static("/x");
        assert_eq!(authority(&origin, &headers), Ok("a.localhost"));
        let absolute = Uri::from_static("http://b.localhost/x");
        assert_eq!(authority(&absolute, &headers), Ok("b.localhost"));
        headers.append(header::HOST, "c.localhost".parse().unwrap());
        assert_eq!(authority(&origin, &headers), Err(NoApp::BadHost));
    }
}
