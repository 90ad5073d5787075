//! A client of the API: one connection over loopback.

use crate::{Failure, TOKEN};
use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rt::Tasks;
use serde_json::Value;
use std::net::SocketAddr;

/// A connection, used by one caller.
pub(crate) struct Client {
    sender: SendRequest<Body>,
}

impl Client {
    /// A new connection.
    pub(crate) async fn connect(address: SocketAddr, tasks: &Tasks) -> Result<Self, Failure> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tasks.spawn_until_stop(async move {
            // The caller sees the end of the connection.
            let _ = connection.await;
        });
        Ok(Self { sender })
    }

    /// The answer of the API; its body is still to be read.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "bench")
            .header("authorization", format!("Bearer {TOKEN}"));
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.sender.ready().await?;
        Ok(self.sender.send_request(request.body(body)?).await?)
    }

    /// The body of an answer that has succeeded.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, Failure> {
        let answer = self.send(method, path, body).await?;
        let status = answer.status();
        let bytes = answer.into_body().collect().await?.to_bytes();
        if status.is_success() {
            return Ok(bytes);
        }
        Err(format!("{path}: {status} {}", String::from_utf8_lossy(&bytes)).into())
    }
}
