//! The API over real HTTP, with a real store and a fake host.

use control::audit::{AuditLimits, AuditLog};
use control::http_api::{HttpApi, HttpConfig};
use control::oidc::{OidcConfig, OidcKeys};
use control::wireguard::Gateway;
use control::{Config, HostNames, Platform, Ports, orgs, reconcile, tokens};
use host_api::FixedHosts;
use model::id::HostId;
use prometheus_client::registry::Registry;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Digest;
use std::net::SocketAddr;
use std::sync::Arc;
use store_sqlite::SqliteStore;
use testkit::FakeHost;

pub(crate) const TOKEN: &str = "fm2_test-token";

pub(crate) struct TestWorld {
    pub(crate) api: HttpApi,
    pub(crate) platform: Platform,
    /// The store of the platform.
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) hosts: Arc<FixedHosts>,
    pub(crate) host: FakeHost,
    /// A second host, if there is one.
    pub(crate) other: Option<FakeHost>,
    pub(crate) clock: rt::Clock,
    pub(crate) registry: Registry,
    pub(crate) addr: SocketAddr,
    pub(crate) client: reqwest::Client,
    pub(crate) tasks: rt::Tasks,
    _dir: tempfile::TempDir,
}

impl Drop for TestWorld {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

pub(crate) async fn world() -> TestWorld {
    world_of(1).await
}

/// A world of one or two hosts.
pub(crate) async fn world_of(count: u16) -> TestWorld {
    let dir = tempfile::tempdir().unwrap();
    let tasks = rt::Tasks::new();
    let clock = rt::Clock::manual(1_700_000_000_000_000_000);
    let store = SqliteStore::open(&dir.path().join("global.db"), clock.clone(), &tasks).unwrap();
    let store = Arc::new(store);
    let hosts: Vec<_> = (0..count).map(|n| FakeHost::new(HostId(n), "local")).collect();
    let fixed = Arc::new(FixedHosts::new(hosts.iter().map(FakeHost::known).collect()));
    let ports = Ports {
        store: store.clone(),
        hosts: fixed.clone(),
        clock: clock.clone(),
        rng: rt::Rng::seeded(1),
        tasks: tasks.clone(),
        secrets_key: testkit::secrets_key(),
    };
    let mut registry = Registry::default();
    let token_secret = tokens::TokenSecret::new(b"a secret of sixteen bytes");
    let audit = AuditLog::open(&dir.path().join("audit"), AuditLimits::default(), &clock, &tasks);
    let audit = audit.unwrap();
    let keys = OidcKeys::open(&dir.path().join("oidc-keys")).unwrap();
    let issuer = "https://oidc.example.com".to_owned();
    let oidc = OidcConfig { issuer, audience: String::new(), keys: Some(keys) };
    let public_key = "WireGuard key of the gateway".to_owned();
    let gateway = Gateway::At { address: "127.0.0.43".parse().unwrap(), public_key };
    let config = Config { token_secret, oidc, audit, gateway, ..Config::default() };
    let host_names = HostNames::Served {
        address: "127.0.0.43:443".parse().unwrap(),
        names: vec!["api.fly.io".into()],
        ca_certificate: "PEM".into(),
    };
    let config = Config { edge_port: Some(8080), host_names, ..config };
    let platform = Platform::new(config, ports);
    platform.start_cache();
    orgs::ensure_default(&platform).await.unwrap();
    tokens::install_admin_token(&platform, HostId(0), TOKEN).await.unwrap();
    let body_timeout = std::time::Duration::from_millis(300);
    let limits = HttpConfig { body_limit: 64 * 1024, body_timeout, ..HttpConfig::default() };
    let api = HttpApi::new(platform.clone(), limits, &mut registry);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = api.router();
    tasks.spawn_until_stop(async move { axum::serve(listener, router).await.unwrap() });
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut hosts = hosts.into_iter();
    let host = hosts.next().unwrap();
    let other = hosts.next();
    TestWorld {
        api,
        platform,
        store,
        hosts: fixed,
        host,
        other,
        clock,
        registry,
        addr,
        client,
        tasks,
        _dir: dir,
    }
}

impl TestWorld {
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.addr);
        self.client.request(method, url).header("authorization", format!("Bearer {TOKEN}"))
    }

    /// Puts the record of a token with this text into the store.
    pub(crate) async fn put_token(&self, text: &str, record: store::records::TokenRecord) {
        let sha256 = sha2::Sha256::digest(text.as_bytes());
        let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = store::records::token_key(&sha256);
        let record = store::records::TokenRecord { sha256, ..record };
        let then = vec![store::Op::put(key, store::records::encode(&record))];
        store::Store::txn(&*self.store, store::Txn { then, ..Default::default() }).await.unwrap();
    }

    /// How many machines the store notes as released.
    pub(crate) async fn count_released(&self) -> usize {
        let range = store::KeyRange::prefix(store::records::RELEASED);
        store::Store::range(&*self.store, range, None, None).await.unwrap().entries.len()
    }

    /// One pass of all reconcilers.
    pub(crate) async fn reconcile(&self) {
        reconcile::pass(&self.platform).await;
    }

    /// Status and JSON of the answer (`null` if it has none).
    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let mut request = self.request(method, path);
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["fly-request-id"].len(), 26, "{path}");
        let status = answer.status();
        let text = answer.text().await.unwrap();
        let json = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
        if status >= StatusCode::BAD_REQUEST {
            assert!(json["error"].is_string() && json["status"].is_string(), "{path}: {text}");
        }
        (status.as_u16(), json)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(Method::POST, path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        self.call(Method::DELETE, path, Value::Null).await
    }

    /// An app `web`.
    pub(crate) async fn app(&self) {
        let (code, json) = self.post("/v1/apps", json!({ "app_name": "web" })).await;
        assert_eq!(code, 201, "{json}");
    }

    /// A machine of the app `web`; its JSON.
    pub(crate) async fn machine(&self, more: Value) -> Value {
        let mut body = json!({ "config": { "image": "nginx" } });
        let (Value::Object(to), Value::Object(from)) = (&mut body, more) else { unreachable!() };
        to.extend(from);
        let (code, json) = self.post("/v1/apps/web/machines", body).await;
        assert_eq!(code, 200, "{json}");
        json
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// The path of a machine of the app `web`.
pub(crate) fn at(machine: &Value, rest: &str) -> String {
    format!("/v1/apps/web/machines/{}{rest}", machine["id"].as_str().unwrap())
}

pub(crate) fn error(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"].as_str().unwrap_or_default())
}

pub(crate) fn id(machine: &Value) -> model::id::MachineId {
    machine["id"].as_str().unwrap().parse().unwrap()
}
