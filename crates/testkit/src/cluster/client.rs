//! Clients of a cluster: of its API, and of the apps behind its edge.

use super::Cluster;
use super::platform::TOKEN;
use axum::body::Body;
use edge::{AdmissionRequest, Refusal};
use host_api::Route;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::service::Service;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use model::id::{HostId, MachineId};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Bytes under way in each direction of a client's connection.
const WINDOW: usize = 64 << 10;
/// The internal port of the apps that [`Cluster::create`] makes.
pub(super) const PORT: u16 = 8080;

/// An answer of the API.
pub(super) type Answer = hyper::Response<Body>;

/// An answer that came through the edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeAnswer {
    /// Status.
    pub status: u16,
    /// The body: the id of the machine that answered, or why none did.
    pub text: String,
}

impl EdgeAnswer {
    /// The machine that answered.
    ///
    /// # Panics
    /// None did.
    pub fn machine(&self) -> MachineId {
        let machine = (self.status == 200).then(|| self.text.parse().ok()).flatten();
        machine.unwrap_or_else(|| panic!("no machine answered: {self:?}"))
    }
}

impl Cluster {
    /// Calls the API. Status and JSON of the answer.
    ///
    /// # Panics
    /// There is no answer, or it is no JSON.
    pub async fn call(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let answer = self.answer_to(method, path, body).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("the answer is whole").to_bytes();
        let json = match body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&body).expect("the answer is JSON"),
        };
        (status, json)
    }

    /// The answer of the API, whose body may be without end.
    pub(super) async fn answer_to(&self, method: Method, path: &str, body: Value) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("authorization", format!("Bearer {TOKEN}"));
        let body = match body {
            Value::Null => Body::empty(),
            body => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
        };
        let request = request.body(body).expect("a request");
        let front = TowerToHyperService::new(self.api.router());
        front.call(request).await.expect("the API answers")
    }

    /// Reads from the API.
    ///
    /// # Panics
    /// As [`Cluster::call`].
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, Value::Null).await
    }

    /// An app.
    ///
    /// # Panics
    /// It cannot be created.
    pub async fn app(&self, name: &str) {
        let answer = self.call(Method::POST, "/v1/apps", json!({ "app_name": name })).await;
        assert_eq!(answer.0, 201, "{answer:?}");
    }

    /// A machine of `app` that serves; `more` is merged into the request.
    ///
    /// # Panics
    /// It cannot be created.
    pub async fn create(&self, app: &str, more: Value) -> MachineId {
        let answer = self.try_create(app, more).await;
        answer.unwrap_or_else(|refused| panic!("the create fails: {refused:?}"))
    }

    /// The same, which may fail.
    ///
    /// # Errors
    /// Status and JSON of the refusal.
    ///
    /// # Panics
    /// The answer has no id.
    pub async fn try_create(&self, app: &str, more: Value) -> Result<MachineId, (u16, Value)> {
        let service = json!({
            "protocol": "tcp", "internal_port": PORT, "autostop": "off", "autostart": true,
            "ports": [{ "port": 80, "handlers": ["http"] }],
        });
        let mut body = json!({ "config": {
            "image": "app",
            "init": { "cmd": ["serve", PORT.to_string()] },
            "restart": { "policy": "no" },
            "services": [service],
        } });
        if let (Some(to), Value::Object(from)) = (body.as_object_mut(), more) {
            to.extend(from);
        }
        let path = format!("/v1/apps/{app}/machines");
        match self.call(Method::POST, &path, body).await {
            (200, json) => Ok(id_of(&json)),
            refused => Err(refused),
        }
    }

    /// Does something to a machine, such as `stop`.
    pub async fn post(&self, app: &str, id: MachineId, what: &str) -> (u16, Value) {
        let path = format!("/v1/apps/{app}/machines/{id}/{what}");
        self.call(Method::POST, &path, json!({})).await
    }

    /// Destroys a machine, also one that runs.
    pub async fn destroy(&self, app: &str, id: MachineId) -> (u16, Value) {
        let path = format!("/v1/apps/{app}/machines/{id}?force=true");
        self.call(Method::DELETE, &path, Value::Null).await
    }

    /// Waits for a state of a machine.
    ///
    /// # Panics
    /// It does not come to that state.
    pub async fn wait(&self, app: &str, id: MachineId, state: &str) {
        let path = format!("/v1/apps/{app}/machines/{id}/wait?state={state}&timeout=60");
        let answer = self.get(&path).await;
        assert_eq!(answer.0, 200, "machine {id} does not become {state}: {answer:?}");
    }

    /// The machines of an app in the order of their ids.
    ///
    /// # Panics
    /// They cannot be listed.
    pub async fn list(&self, app: &str) -> Vec<Value> {
        let (status, json) = self.get(&format!("/v1/apps/{app}/machines")).await;
        let Value::Array(mut machines) = json else { panic!("the list fails: {status} {json}") };
        machines.sort_by_key(|machine| machine["id"].as_str().map(str::to_owned));
        machines
    }

    /// A request to an app through the edge, on a connection of its own.
    ///
    /// # Panics
    /// The edge closes the connection without an answer.
    pub async fn request(&self, app: &str) -> EdgeAnswer {
        let (near, far) = tokio::io::duplex(WINDOW);
        self.edge.serve_stream(Box::new(far), SocketAddr::from(([127, 0, 0, 1], 5555)));
        let made = http1::handshake(TokioIo::new(near)).await;
        let (mut sender, connection) = made.expect("the edge takes connections");
        self.tasks.spawn_until_stop(async move {
            // The request sees the end of the connection.
            let _ = connection.await;
        });
        let request = Request::get("/").header("host", format!("{app}.localhost"));
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let answer = sender.send_request(request).await.expect("the edge answers");
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("the answer is whole").to_bytes();
        EdgeAnswer { status, text: String::from_utf8_lossy(&body).into_owned() }
    }

    /// The edge's view of a machine: whether it would send a request there, and
    /// if not, why.
    ///
    /// # Errors
    /// Why it would not.
    pub fn admitted(&self, route: &Route, host: HostId) -> Result<(), Refusal> {
        let request = AdmissionRequest {
            app: route.app_name.as_str().into(),
            machine: route.machine,
            host,
            ownership: route.epoch,
            port: 80,
        };
        self.edge.admission().admit(&request).map(drop)
    }
}

/// The id in a machine's JSON.
///
/// # Panics
/// There is none.
fn id_of(machine: &Value) -> MachineId {
    let id = machine["id"].as_str().and_then(|id| id.parse().ok());
    id.unwrap_or_else(|| panic!("no machine: {machine}"))
}
