//! What the edge adds to and takes from heads (P014, P017).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};
use std::net::SocketAddr;

const CLIENT_IP: HeaderName = HeaderName::from_static("fly-client-ip");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("fly-forwarded-port");
const REGION: HeaderName = HeaderName::from_static("fly-region");
const REQUEST_ID: HeaderName = HeaderName::from_static("fly-request-id");
const X_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_SSL: HeaderName = HeaderName::from_static("x-forwarded-ssl");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Where a request came from and what it is called.
#[derive(Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// Outside port as the client sees it.
    pub(crate) port: u16,
    pub(crate) region: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) version: Version,
}

/// The protocol a client wants to change to, if it may.
pub(crate) fn upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    let wants = named.flat_map(|v| v.split(',')).any(|t| t.trim().eq_ignore_ascii_case("upgrade"));
    let protocol = headers.get(header::UPGRADE).filter(|_| wants && version == Version::HTTP_11)?;
    // A change to h2c would hand the app a connection the edge cannot read.
    (!protocol.as_bytes().eq_ignore_ascii_case(b"h2c")).then(|| protocol.clone())
}

/// Takes out what concerns one hop only (RFC 9110, 7.6.1). `Trailer` stays:
/// trailers are passed on.
pub(crate) fn strip_hop(headers: &mut HeaderMap) {
    if let Some(named) = joined(headers, &header::CONNECTION) {
        headers.remove(header::CONNECTION);
        // The last two are not a client's to take out.
        let kept = ["keep-alive", "close", "upgrade", "te", "", "host", "content-length"];
        for token in named.split(',').map(str::trim) {
            if !kept.iter().any(|k| token.eq_ignore_ascii_case(k)) {
                headers.remove(token);
            }
        }
    }
    for name in [
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
    ] {
        headers.remove(name);
    }
}

/// The head for the app.
pub(crate) fn to_app(headers: &mut HeaderMap, origin: &Origin<'_>) {
    let trailers = headers.get(header::TE).is_some_and(|te| te.as_bytes().starts_with(b"trailers"));
    strip_hop(headers);
    headers.remove(header::TE);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    // Answered by the edge as soon as the body is wanted.
    headers.remove(header::EXPECT);
    let peer = origin.peer.ip().to_canonical().to_string();
    let chain = format!("{peer}, {}", origin.local.ip().to_canonical());
    let chain = match joined(headers, &X_FOR) {
        Some(before) => format!("{before}, {chain}"),
        None => chain,
    };
    put(headers, X_FOR, &chain);
    put(headers, CLIENT_IP, &peer);
    headers.insert(FORWARDED_PORT, HeaderValue::from(origin.port));
    put(headers, REGION, origin.region);
    put(headers, REQUEST_ID, origin.request_id);
    headers.insert(X_PROTO, HeaderValue::from_static("http"));
    headers.insert(X_SSL, HeaderValue::from_static("off"));
    headers.entry(X_PORT).or_insert(HeaderValue::from(origin.port));
    headers.append(header::VIA, via(origin.version));
}

/// What the client learns of the edge.
pub(crate) fn to_client(headers: &mut HeaderMap, origin: &Origin<'_>, server: &HeaderValue) {
    headers.insert(header::SERVER, server.clone());
    headers.append(header::VIA, via(origin.version));
    put(headers, REQUEST_ID, origin.request_id);
}

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2 fly.io",
        Version::HTTP_10 => "1.0 fly.io",
        _ => "1.1 fly.io",
    })
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<_> =
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // Addresses, ids and earlier header values: always a valid value.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The client prefers JSON.
pub(crate) fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    accept.is_some_and(|accept| accept.contains("json") && !accept.contains("text/html"))
}

/// Sent twice it does what it does once (RFC 9110, 9.2.2).
pub(crate) fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE]
        .contains(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(k, v): &(&'static str, &str)| (HeaderName::from_static(k), v.parse().unwrap());
        lines.iter().map(pair).collect()
    }

    fn show(headers: &HeaderMap) -> String {
        let mut lines: Vec<_> =
            headers.iter().map(|(k, v)| format!("{k}: {}\n", v.to_str().unwrap())).collect();
        lines.sort();
        lines.concat()
    }

    fn origin() -> Origin<'static> {
        Origin {
            peer: "192.0.2.7:999".parse().unwrap(),
            local: "192.0.2.1:8080".parse().unwrap(),
            port: 8080,
            region: "ams",
            request_id: "01J-ams",
            version: Version::HTTP_11,
        }
    }

    #[test]
    fn heads_for_the_app() {
        let mut headers = map(&[
            ("host", "web.localhost"),
            ("connection", "keep-alive, x-private"),
            ("x-private", "1"),
            ("keep-alive", "5"),
            ("te", "trailers, deflate"),
            ("fly-client-ip", "6.6.6.6"),
            ("fly-region", "forged"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-port", "444"),
            ("via", "1.1 cdn"),
            ("expect", "100-continue"),
        ]);
        to_app(&mut headers, &origin());
        expect_test::expect![[r#"
            fly-client-ip: 192.0.2.7
            fly-forwarded-port: 8080
            fly-region: ams
            fly-request-id: 01J-ams
            host: web.localhost
            te: trailers
            via: 1.1 cdn
            via: 1.1 fly.io
            x-forwarded-for: 10.0.0.1, 192.0.2.7, 192.0.2.1
            x-forwarded-port: 444
            x-forwarded-proto: http
            x-forwarded-ssl: off
        "#]]
        .assert_eq(&show(&headers));
    }

    #[test]
    fn only_http11_upgrades_and_not_to_h2c() {
        let ws = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(upgrade(Version::HTTP_11, &ws).unwrap(), "websocket");
        assert_eq!(upgrade(Version::HTTP_10, &ws), None);
        let h2c = map(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c")]);
        assert_eq!(upgrade(Version::HTTP_11, &h2c), None);
        assert_eq!(upgrade(Version::HTTP_11, &map(&[("upgrade", "websocket")])), None);
    }
}
