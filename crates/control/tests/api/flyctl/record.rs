//! A listener in front of a platform that records what passes through it.

use super::exchange::Exchange;
use super::script::Call;
use crate::world::{TOKEN, TestWorld, world};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// The administrator's token for the client: it would take the other one for a macaroon.
pub(super) const ADMIN: &str = "an-opaque-token-of-the-administrator";
/// Bytes of a body; more than any of these tests sends.
const MAX_BODY: usize = 8 << 20;

/// A platform and what was asked of it.
pub(super) struct Recorder {
    pub(super) world: TestWorld,
    pub(super) addr: SocketAddr,
    tape: Arc<Tape>,
}

#[derive(Debug, Default)]
struct Tape {
    command: Mutex<String>,
    exchanges: Mutex<Vec<Exchange>>,
}

impl Recorder {
    pub(super) async fn new() -> Self {
        let world = world().await;
        // For twenty machines.
        world.host.set_memory(16 * 1024);
        control::tokens::install_admin_token(&world.platform, model::id::HostId(1), ADMIN)
            .await
            .unwrap();
        let tape = Arc::<Tape>::default();
        let app = Router::new()
            .fallback_service(world.api.router())
            .layer(from_fn_with_state(tape.clone(), pass));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        world.tasks.spawn_until_stop(async move { axum::serve(listener, app).await.unwrap() });
        Self { world, addr, tape }
    }

    /// What is asked from now on belongs to this command.
    pub(super) async fn begin(&self, command: &str) {
        let before = std::mem::replace(&mut *self.tape.command.lock().unwrap(), command.to_owned());
        if before == command || !command.starts_with("logs") {
            return;
        }
        // The client waits until there is a line, and the host in memory writes none itself.
        if let Some(machine) = self.newest_machine().await {
            self.world.host.print(machine.parse().unwrap(), 1, "listening on 8080");
        }
    }

    pub(super) fn exchanges(&self) -> Vec<Exchange> {
        self.tape.exchanges.lock().unwrap().clone()
    }

    pub(super) async fn call(&self, call: &Call) {
        self.begin("setup").await;
        let url = format!("http://{}{}", self.addr, call.post);
        let request = self.world.client.post(url).bearer_auth(ADMIN).json(&call.body);
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{}: {}", call.post, answer.text().await.unwrap());
    }

    /// The newest volume of the app `web`, if it has any.
    pub(super) async fn newest_volume(&self) -> Option<String> {
        let (_, volumes) = self.world.get("/v1/apps/web/volumes").await;
        Some(volumes.as_array()?.last()?["id"].as_str().unwrap().to_owned())
    }

    /// The newest machine of the app `web`, if it has any.
    pub(super) async fn newest_machine(&self) -> Option<String> {
        let (_, machines) = self.world.get("/v1/apps/web/machines").await;
        let machines = machines.as_array()?.iter();
        let newest = machines.max_by_key(|machine| machine["created_at"].as_str().unwrap());
        newest.map(|machine| machine["id"].as_str().unwrap().to_owned())
    }
    /// The id of a token of the app `web`, if it has any.
    pub(super) async fn app_token(&self) -> Option<String> {
        let (_, tokens) = self.world.get("/v1/apps/web/tokens").await;
        let newest = tokens["tokens"].as_array()?.last()?;
        Some(newest["id"].as_str().unwrap().to_owned())
    }
}

async fn pass(State(tape): State<Arc<Tape>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.unwrap();
    let method = parts.method.to_string();
    let path = parts.uri.path_and_query().unwrap().to_string();
    let (token, nonce) = (token(&parts.headers), header(&parts.headers, "fly-machine-lease-nonce"));
    let of = tape.command.lock().unwrap().clone();
    let request_body = json(&body);
    let answer = next.run(Request::from_parts(parts, Body::from(body))).await;
    let (parts, body) = answer.into_parts();
    let body = to_bytes(body, MAX_BODY).await.unwrap();
    let (status, answer) = (parts.status.as_u16(), json(&body));
    let exchange = Exchange { of, method, path, token, nonce, body: request_body, status, answer };
    tape.exchanges.lock().unwrap().push(exchange);
    Response::from_parts(parts, Body::from(body))
}

fn json(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap_or(Value::Null)
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().unwrap().to_owned())
}

/// The value of the header, if it has another token than the administrator's.
fn token(headers: &HeaderMap) -> Option<String> {
    let value = header(headers, "authorization")?;
    (!value.ends_with(ADMIN) && !value.ends_with(TOKEN)).then_some(value)
}
