//! What the edge adds to and takes from heads, after
//! fly.io/docs/networking/request-headers and RFC 9110, 7.6.

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

/// Names the code of an answer that the edge gives itself.
pub(crate) const ERROR_CODE: HeaderName = HeaderName::from_static("updraft-error");

/// Headers `fly-…` that a client may send, since they ask for something
/// (fly.io/docs/networking/dynamic-request-routing). Apps trust all others to be
/// the platform's own.
const OF_CLIENTS: [&str; 5] = [
    "fly-prefer-region",
    "fly-force-region",
    "fly-prefer-instance-id",
    "fly-force-instance-id",
    "fly-replay-cache-control",
];

/// Header values that all requests of a client's connection have in common.
#[derive(Clone, Debug)]
pub(crate) struct ClientValues {
    /// Address of the client.
    ip: HeaderValue,
    /// The same, and the edge's own.
    chain: HeaderValue,
    /// Outside port as the client sees it.
    port: HeaderValue,
}

impl ClientValues {
    pub(crate) fn new(peer: SocketAddr, local: SocketAddr, port: u16) -> Self {
        let peer = peer.ip().to_canonical().to_string();
        let chain = value(format!("{peer}, {}", local.ip().to_canonical()));
        Self { ip: value(peer), chain, port: HeaderValue::from(port) }
    }
}

/// Where a request came from and what it is called.
#[derive(Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) client: &'a ClientValues,
    pub(crate) region: &'a HeaderValue,
    pub(crate) request_id: &'a HeaderValue,
    pub(crate) version: Version,
}

/// The protocol a client wants to change to, if it may: of a list `websocket`, or
/// the first that is not `h2c`.
pub(crate) fn upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    let wants = tokens(headers, &header::CONNECTION).any(|t| t.eq_ignore_ascii_case(b"upgrade"));
    if !wants || version != Version::HTTP_11 {
        return None;
    }
    // A change to h2c would hand the app a connection the edge cannot read.
    let is_h2c = |token: &[u8]| {
        let name = token.split(|b| *b == b'/').next().unwrap_or_default();
        name.eq_ignore_ascii_case(b"h2c") || name.eq_ignore_ascii_case(b"h2")
    };
    let offered = || tokens(headers, &header::UPGRADE).filter(|token| !is_h2c(token));
    let websocket = offered().find(|token| token.eq_ignore_ascii_case(b"websocket"));
    let chosen = websocket.or_else(|| offered().next())?;
    HeaderValue::from_bytes(chosen).ok()
}

/// The elements of a header that is a list of tokens, empty ones left out.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let values = headers.get_all(name).into_iter();
    let elements = values.flat_map(|value| value.as_bytes().split(|b| *b == b','));
    elements.map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Takes out what concerns one hop only (RFC 9110, 7.6.1). `Trailer` stays:
/// trailers are passed on.
pub(crate) fn strip_hop(headers: &mut HeaderMap) {
    /// The last two are not a client's to take out.
    const KEPT: [&[u8]; 6] =
        [b"keep-alive", b"close", b"upgrade", b"te", b"host", b"content-length"];
    // What is no name of a header cannot be one either.
    let is_kept = |token: &[u8]| KEPT.iter().any(|kept| token.eq_ignore_ascii_case(kept));
    let named: Vec<HeaderName> = tokens(headers, &header::CONNECTION)
        .filter(|token| !is_kept(token))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .collect();
    headers.remove(header::CONNECTION);
    for name in named {
        headers.remove(name);
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

/// The head of an app's answer, for the client.
///
/// # Errors
/// Its length is not clear.
pub(crate) fn from_app(headers: &mut HeaderMap) -> Result<(), String> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // The transfer coding counts, and the length must not be passed on
        // (RFC 9112, 6.3).
        headers.remove(header::CONTENT_LENGTH);
    } else if let Some(length) = one_length(headers)? {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    strip_hop(headers);
    // Only the edge names codes of its own answers.
    headers.remove(ERROR_CODE);
    Ok(())
}

/// The length that a head states, also if it does so several times over.
fn one_length(headers: &HeaderMap) -> Result<Option<u64>, String> {
    let mut stated = None;
    let values = headers.get_all(header::CONTENT_LENGTH).into_iter();
    for element in values.flat_map(|value| value.as_bytes().split(|b| *b == b',')) {
        let text = std::str::from_utf8(element.trim_ascii()).unwrap_or_default();
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let length = text.parse::<u64>().ok().filter(|_| digits);
        let Some(length) = length.filter(|length| stated.is_none_or(|s| s == *length)) else {
            return Err("the app's answer has a Content-Length that is not one number".into());
        };
        stated = Some(length);
    }
    Ok(stated)
}

/// The cookies of an HTTP/2 request may come in pieces; HTTP/1 has one line
/// (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let pieces = headers.get_all(header::COOKIE);
    let pieces: Vec<_> = pieces.into_iter().map(HeaderValue::as_bytes).collect();
    if pieces.len() < 2 {
        return;
    }
    // Valid values, joined by text that is valid in one.
    if let Ok(joined) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Takes out all `fly-…` headers but those that are a client's to send. Gateway interfaces
/// (CGI, WSGI) read `_` in a name as `-`, so with `_` a client could send what only the
/// edge may set.
fn drop_platform_headers(headers: &mut HeaderMap) {
    let is_platforms = |name: &&HeaderName| {
        let name = name.as_str();
        if name.contains('_') {
            let read = name.replace('_', "-");
            return read.starts_with("fly-") || read.starts_with("x-forwarded-");
        }
        name.starts_with("fly-") && !OF_CLIENTS.contains(&name)
    };
    // Looked for first: most requests have none.
    if headers.keys().any(|name| is_platforms(&name)) {
        let names: Vec<_> = headers.keys().filter(is_platforms).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

/// The head for the app.
pub(crate) fn to_app(headers: &mut HeaderMap, origin: &Origin<'_>) {
    let trailers = tokens(headers, &header::TE).any(|te| te.eq_ignore_ascii_case(b"trailers"));
    strip_hop(headers);
    drop_platform_headers(headers);
    if origin.version == Version::HTTP_2 {
        join_cookies(headers);
    }
    headers.remove(header::TE);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        // A sender of `TE` must name it (RFC 9110, 10.1.4).
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    // Answered by the edge as soon as the body is wanted.
    headers.remove(header::EXPECT);
    let ClientValues { ip, chain, port } = origin.client;
    let chain = match joined(headers, &X_FOR) {
        Some(before) => value(format!("{before}, {}", chain.to_str().unwrap_or_default())),
        None => chain.clone(),
    };
    headers.insert(X_FOR, chain);
    headers.insert(CLIENT_IP, ip.clone());
    headers.insert(FORWARDED_PORT, port.clone());
    headers.insert(REGION, origin.region.clone());
    headers.insert(REQUEST_ID, origin.request_id.clone());
    headers.insert(X_PROTO, HeaderValue::from_static("http"));
    headers.insert(X_SSL, HeaderValue::from_static("off"));
    headers.entry(X_PORT).or_insert_with(|| port.clone());
    headers.append(header::VIA, via(origin.version));
}

/// What the edge adds to an answer for the client.
pub(crate) fn to_client(headers: &mut HeaderMap, origin: &Origin<'_>, server: &HeaderValue) {
    headers.insert(header::SERVER, server.clone());
    headers.append(header::VIA, via(origin.version));
    headers.insert(REQUEST_ID, origin.request_id.clone());
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

/// A header value of addresses, ids or earlier header values: those are always valid.
pub(crate) fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
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

    /// `headers` as the app gets them.
    fn for_app(headers: &mut HeaderMap, version: Version) {
        let (peer, local) = ("192.0.2.7:999".parse().unwrap(), "192.0.2.1:8080".parse().unwrap());
        let client = ClientValues::new(peer, local, 8080);
        let (region, request_id) = (value("ams".into()), value("01J-ams".into()));
        let origin = Origin { client: &client, region: &region, request_id: &request_id, version };
        to_app(headers, &origin);
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
            ("fly-forwarded-proto", "https"),
            ("fly-forwarded-ssl", "on"),
            ("fly-replay-src", "instance=1"),
            ("fly-src", "app=other"),
            ("fly-src-signature", "aaaa"),
            ("fly-prefer-region", "ams"),
            ("fly_client_ip", "6.6.6.6"),
            ("fly-client_ip", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x-forwarded_proto", "https"),
            ("x_request", "kept"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-port", "444"),
            ("via", "1.1 cdn"),
            ("expect", "100-continue"),
        ]);
        for_app(&mut headers, Version::HTTP_11);
        expect_test::expect![[r#"
            connection: te
            fly-client-ip: 192.0.2.7
            fly-forwarded-port: 8080
            fly-prefer-region: ams
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
            x_request: kept
        "#]]
        .assert_eq(&show(&headers));
    }

    #[test]
    fn te_is_passed_on_for_trailers_only_and_is_named_as_an_option() {
        for (te, is_passed_on) in [
            (&["trailers"][..], true),
            (&["Trailers"], true),
            (&["deflate, trailers"], true),
            (&["deflate;q=0.5", "trailers"], true),
            (&["trailersX"], false),
            (&["deflate"], false),
            (&[""], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in te {
                headers.append(header::TE, value.parse().unwrap());
            }
            for_app(&mut headers, Version::HTTP_11);
            let of = |name| headers.get(name).map(|value| value.to_str().unwrap());
            let want = is_passed_on.then_some(("trailers", "te"));
            assert_eq!(of(header::TE).zip(of(header::CONNECTION)), want, "{te:?}");
        }
    }

    #[test]
    fn only_http11_upgrades_and_never_to_h2c() {
        let chosen = |version, connection: &str, protocols: &[&str]| {
            let mut headers = map(&[("connection", connection)]);
            for protocol in protocols {
                headers.append(header::UPGRADE, protocol.parse().unwrap());
            }
            upgrade(version, &headers).map(|p| p.to_str().unwrap().to_owned())
        };
        let http11 = |protocols: &[&str]| chosen(Version::HTTP_11, "upgrade", protocols);
        for (protocols, want) in [
            (&["websocket"][..], Some("websocket")),
            (&["WebSocket"], Some("WebSocket")),
            (&["h2c"], None),
            (&["H2C"], None),
            (&["h2c,"], None),
            (&["h2c, x"], Some("x")),
            (&["websocket, h2c"], Some("websocket")),
            (&["h2c, websocket"], Some("websocket")),
            (&["h2c", "websocket"], Some("websocket")),
            (&["h2c/1.0"], None),
            (&["x, websocket"], Some("websocket")),
            (&["x, y"], Some("x")),
            (&["", ","], None),
        ] {
            assert_eq!(http11(protocols).as_deref(), want, "{protocols:?}");
        }
        assert!(chosen(Version::HTTP_11, "keep-alive, Upgrade", &["websocket"]).is_some());
        assert_eq!(chosen(Version::HTTP_10, "upgrade", &["websocket"]), None);
        assert_eq!(chosen(Version::HTTP_11, "keep-alive", &["websocket"]), None);
    }

    #[test]
    fn a_connection_header_is_obeyed_and_removed_whatever_else_is_in_it() {
        let mut headers = map(&[("x-a", "1"), ("x-b", "2"), ("content-length", "3")]);
        let value = HeaderValue::from_bytes(b"x-a, \xff, x-b, content-length, a b").unwrap();
        headers.insert(header::CONNECTION, value);
        strip_hop(&mut headers);
        assert_eq!(show(&headers), "content-length: 3\n");
    }

    #[test]
    fn cookies_in_pieces_are_one_line_for_the_app() {
        let pieces = &[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")];
        for (version, want) in
            [(Version::HTTP_2, &["a=1; b=2; c=3"][..]), (Version::HTTP_11, &["a=1", "b=2", "c=3"])]
        {
            let mut headers = HeaderMap::new();
            for (name, value) in pieces {
                headers.append(*name, value.parse().unwrap());
            }
            for_app(&mut headers, version);
            let cookies: Vec<_> = headers.get_all("cookie").into_iter().collect();
            assert_eq!(cookies, want, "{version:?}");
        }
    }

    #[test]
    fn the_length_of_an_answer_is_one_number_or_none() {
        for (lengths, chunked, want) in [
            (&["5"][..], false, Ok(Some("5"))),
            (&["5, 5"], false, Ok(Some("5"))),
            (&["5", "5"], false, Ok(Some("5"))),
            (&["5, 6"], false, Err(())),
            (&["+5"], false, Err(())),
            (&["5,"], false, Err(())),
            (&["2"], true, Ok(None)),
            (&[], false, Ok(None)),
        ] {
            let mut headers = HeaderMap::new();
            for length in lengths {
                headers.append("content-length", length.parse().unwrap());
            }
            if chunked {
                headers.insert("transfer-encoding", "chunked".parse().unwrap());
            }
            headers.insert(ERROR_CODE, "PR01".parse().unwrap());
            let found = from_app(&mut headers).map_err(drop);
            assert!(found.is_err() || !headers.contains_key(ERROR_CODE));
            let found = found.map(|()| headers.get("content-length").map(|v| v.to_str().unwrap()));
            assert_eq!(found, want, "{lengths:?} {chunked}");
            assert!(!headers.contains_key("transfer-encoding"));
        }
    }
}
