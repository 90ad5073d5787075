//! Requests of other programs, passed on with the token of this client.

use crate::transport::Call;
use crate::{Client, Error};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, request};
use reqwest::{Body, Upgraded};

/// Headers that belong to one connection, not to the message
/// (<https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1>).
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// How the API has answered a request that was passed on.
#[derive(Debug)]
pub enum Forwarded {
    /// With an answer of whatever status, whose body is read as it comes.
    Answer(Response<Body>),
    /// With another protocol on the same connection, such as WebSocket.
    Upgraded {
        /// Status 101 and its headers.
        head: Response<()>,
        /// The connection.
        stream: Box<Upgraded>,
    },
}

impl Client {
    /// Sends a request as another program has made it, also one that changes to WebSocket. Its
    /// path is below the base URL of this client. The token of this client is added unless the
    /// request has one of its own.
    ///
    /// # Errors
    /// The API did not answer. A refusal is an answer.
    pub async fn forward<B>(&self, head: request::Parts, body: B) -> Result<Forwarded, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + Sync + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let upgrade = head.headers.get(UPGRADE).cloned();
        let mut headers = end_to_end(head.headers);
        // Those of the connection to the API are set with it.
        headers.remove(HOST);
        headers.remove(CONTENT_LENGTH);
        let mut url = self.url().clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}{}", head.uri.path()));
        url.set_query(head.uri.query());
        let name = format!("{} {}", head.method, url.path());
        let own = headers.contains_key(AUTHORIZATION);
        let mut request = self.request(head.method, url, !own).headers(headers);
        request = match &upgrade {
            Some(protocol) => {
                let upgrade = HeaderValue::from_static("upgrade");
                let request = request.version(Version::HTTP_11).header(CONNECTION, upgrade);
                request.header(UPGRADE, protocol)
            }
            None => request.body(Body::wrap(body)),
        };
        let call = Call { name: name.clone(), request };
        let answer = self.send_any(call).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let mut answer = Response::<Body>::from(answer);
            let headers = std::mem::take(answer.headers_mut());
            *answer.headers_mut() = end_to_end(headers);
            return Ok(Forwarded::Answer(answer));
        }
        let mut head = Response::new(());
        *head.status_mut() = answer.status();
        *head.headers_mut() = answer.headers().clone();
        let stream = answer.upgrade().await.map_err(|err| Error::broken(&name, err))?;
        Ok(Forwarded::Upgraded { head, stream: Box::new(stream) })
    }
}

/// The headers without those of one connection, also those that `Connection` names.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    listed.iter().for_each(|name| drop(headers.remove(name)));
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(*name)));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_connection_end_with_it() {
        let pairs = [
            ("connection", "close, X-Own"),
            ("x-own", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
            ("fly-machine-lease-nonce", "n"),
        ];
        let headers = pairs
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let left = end_to_end(HeaderMap::from_iter(headers));
        let mut names: Vec<_> = left.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "fly-machine-lease-nonce"]);
    }
}
