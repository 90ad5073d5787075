//! Which requests are passed on: those that programs of this machine make, and none that a web
//! page has a browser make.
//!
//! A page may have a name of its own lead to loopback (DNS rebinding); its requests have that
//! name in `Host`. It may also send requests to the address itself, whose answers it cannot read,
//! but which would be carried out; browsers name the page in `Origin` and `Sec-Fetch-Site`
//! (<https://www.w3.org/TR/fetch-metadata/>).

use hyper::header::{HOST, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Method, StatusCode, Uri};
use std::net::SocketAddr;

/// Why a request is not passed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) why: String,
}

pub(super) fn check(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    local: SocketAddr,
) -> Result<(), Refusal> {
    if *method == Method::CONNECT {
        return Err(refusal(StatusCode::METHOD_NOT_ALLOWED, "this is no proxy for other hosts"));
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        _ => return Err(refusal(StatusCode::BAD_REQUEST, "there must be one header Host")),
    };
    // The target may be a whole URL.
    let target = uri.authority().map_or(host, Authority::as_str);
    if [host, target].iter().any(|authority| !is_local(authority, local)) {
        let why = "Host must be the address that this listens on, or localhost, with its port";
        return Err(refusal(StatusCode::MISDIRECTED_REQUEST, why));
    }
    let foreign = |origin: &str| {
        !origin.strip_prefix("http://").is_some_and(|authority| is_local(authority, local))
    };
    let origins = headers.get_all(ORIGIN).iter().map(|origin| origin.to_str().unwrap_or_default());
    let sites = headers.get_all("sec-fetch-site").iter();
    let mut sites = sites.map(|site| site.to_str().unwrap_or_default());
    if origins.into_iter().any(foreign) || sites.any(|site| !matches!(site, "none" | "same-origin"))
    {
        return Err(refusal(StatusCode::FORBIDDEN, "requests of web pages are not passed on"));
    }
    Ok(())
}

/// Names the listener itself.
fn is_local(authority: &str, local: SocketAddr) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let host = authority.host();
    let named =
        ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| host.eq_ignore_ascii_case(name));
    let address = host.trim_matches(['[', ']']) == local.ip().to_string();
    let plain = !authority.as_str().contains('@');
    plain && (named || address) && authority.port_u16().unwrap_or(80) == local.port()
}

fn refusal(status: StatusCode, why: &str) -> Refusal {
    Refusal { status, why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn checked(method: &Method, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        let local = SocketAddr::from(([127, 0, 0, 1], 4281));
        let outcome = check(method, &uri.parse().unwrap(), &map, local);
        outcome.err().map_or(200, |refusal| refusal.status.as_u16())
    }

    #[test]
    fn only_programs_of_this_machine_are_served() {
        let own = ("host", "127.0.0.1:4281");
        for (headers, status) in [
            (&[own][..], 200),
            (&[("host", "localhost:4281")], 200),
            (&[("host", "LOCALHOST:4281")], 200),
            (&[("host", "[::1]:4281")], 200),
            (&[], 400),
            (&[own, own], 400),
            (&[("host", "evil.example:4281")], 421),
            (&[("host", "127.0.0.1.evil.example:4281")], 421),
            (&[("host", "user@127.0.0.1:4281")], 421),
            (&[("host", "127.0.0.1:4280")], 421),
            (&[("host", "127.0.0.1")], 421),
            (&[("host", "")], 421),
            (&[own, ("origin", "http://127.0.0.1:4281")], 200),
            (&[own, ("origin", "http://localhost:4281")], 200),
            (&[own, ("origin", "https://evil.example")], 403),
            (&[own, ("origin", "http://localhost:8080")], 403),
            (&[own, ("origin", "null")], 403),
            (&[own, ("sec-fetch-site", "none")], 200),
            (&[own, ("sec-fetch-site", "same-origin")], 200),
            (&[own, ("sec-fetch-site", "cross-site")], 403),
            (&[own, ("sec-fetch-site", "same-site")], 403),
        ] {
            assert_eq!(checked(&Method::GET, "/v1/apps", headers), status, "{headers:?}");
        }
    }

    #[test]
    fn it_is_no_proxy_for_other_hosts() {
        let own = [("host", "127.0.0.1:4281")];
        assert_eq!(checked(&Method::GET, "http://127.0.0.1:4281/v1/apps", &own), 200);
        assert_eq!(checked(&Method::GET, "http://evil.example/v1/apps", &own), 421);
        assert_eq!(checked(&Method::CONNECT, "evil.example:443", &own), 405);
    }
}
