//! What every operation works with: the store, the hosts, and on whose behalf.

use crate::access::Rights;
use crate::audit::AuditLog;
use crate::cache::{self, RecordsCache, TrackedStore};
use crate::event_json::EventTexts;
use crate::idempotency::{RequestId, Turns};
use crate::logins::Logins;
use crate::machines::Confirmations;
use crate::oidc::OidcConfig;
use crate::secrets::Delivered;
use crate::tokens::{TokenSecret, TokenUses};
use crate::unreadable::Unreadable;
use crate::wireguard::Gateway;
use crate::{Error, HostNames};
use host_api::{CallContext, Caller, Deadline, Hosts, Source};
use macaroon::Access;
use model::id::HostId;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::Store;

/// Settings of the control plane.
#[derive(Clone, Debug)]
pub struct Config {
    /// Apps are reached at `<app>.<domain>`.
    pub domain: String,
    /// Port of the edge, where it is part of an app's address.
    pub edge_port: Option<u16>,
    /// The secret that the keys of macaroons are derived from.
    pub token_secret: TokenSecret,
    /// The issuer of tokens for machines.
    pub oidc: OidcConfig,
    /// Where calls that change something are recorded.
    pub audit: AuditLog,
    /// Where tunnels of clients end.
    pub gateway: Gateway,
    /// Whether the API is served under host names of Fly.io.
    pub host_names: HostNames,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domain: "localhost".into(),
            edge_port: None,
            token_secret: TokenSecret::default(),
            oidc: OidcConfig::default(),
            audit: AuditLog::default(),
            gateway: Gateway::default(),
            host_names: HostNames::default(),
        }
    }
}

/// The adapters that the control plane works with, and what else it is given.
#[derive(Clone)]
pub struct Ports {
    /// The global state.
    pub store: Arc<dyn Store>,
    /// Owners of the machines.
    pub hosts: Arc<dyn Hosts>,
    /// For moments that are stored.
    pub clock: rt::Clock,
    /// For ids and names.
    pub rng: rt::Rng,
    /// Owns work that outlives its request, and the reconcilers.
    pub tasks: rt::Tasks,
    /// Seals secrets in the store.
    pub secrets_key: Arc<seal::SealingKey>,
}

/// The platform as one caller sees it. Cheap to clone.
#[derive(Clone)]
pub struct Platform {
    ports: Ports,
    store: Arc<TrackedStore>,
    cache: Arc<RecordsCache>,
    config: Arc<Config>,
    caller: Caller,
    /// What the caller may do.
    rights: Rights,
    /// Where its request comes from: the fields `source_*`, and `mutation`.
    source: Arc<Access>,
    lease_nonce: Option<String>,
    /// The request, if it carries an idempotency key.
    request: Option<RequestId>,
    turns: Arc<Turns>,
    /// Held while a counter is read and written: writers of this process wait
    /// for each other in place of refusing each other's transactions.
    counters: Arc<tokio::sync::Mutex<()>>,
    /// Numbers of machines that have been reserved and are still to be given away.
    machine_numbers: Arc<tokio::sync::Mutex<Range<u64>>>,
    confirmations: Arc<Confirmations>,
    unreadable: Arc<Unreadable>,
    host_regions: Arc<Mutex<BTreeMap<HostId, String>>>,
    token_uses: Arc<TokenUses>,
    delivered: Arc<Delivered>,
    event_texts: Arc<EventTexts>,
    logins: Arc<Logins>,
}

impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Platform");
        shown.field("config", &self.config).field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl Platform {
    /// The platform as the control plane itself sees it.
    pub fn new(config: Config, ports: Ports) -> Self {
        let cache = Arc::<RecordsCache>::default();
        let store = TrackedStore::new(ports.store.clone(), cache.clone());
        Self {
            ports,
            store: Arc::new(store),
            cache,
            config: Arc::new(config),
            caller: Caller::Control,
            rights: Rights::All,
            source: Arc::default(),
            lease_nonce: None,
            request: None,
            turns: Arc::default(),
            counters: Arc::default(),
            machine_numbers: Arc::default(),
            confirmations: Arc::default(),
            unreadable: Arc::default(),
            host_regions: Arc::default(),
            token_uses: Arc::default(),
            delivered: Arc::default(),
            event_texts: Arc::default(),
            logins: Arc::default(),
        }
    }

    /// From now on records are kept in memory and followed in the store, until the
    /// platform's tasks are stopped. Before that every read goes to the store.
    pub fn start_cache(&self) {
        let (store, cache, rng) =
            (self.ports.store.clone(), self.cache.clone(), self.ports.rng.clone());
        self.ports.tasks.spawn_until_stop(async move {
            cache::follow(&*store, &cache, &rng).await;
        });
    }

    /// The same on behalf of `caller`, who has these rights and holds the lease with this
    /// nonce.
    #[must_use]
    pub fn on_behalf_of(
        &self,
        caller: Caller,
        rights: Rights,
        lease_nonce: Option<String>,
    ) -> Self {
        Self { caller, rights, lease_nonce, ..self.clone() }
    }

    /// The same for a request that comes out of a machine: `source` has the fields `source_*`.
    #[must_use]
    pub(crate) fn coming_from(&self, source: Access) -> Self {
        Self { source: Arc::new(source), ..self.clone() }
    }

    /// The same for one mutation of a GraphQL request, which a token may be limited to.
    #[must_use]
    pub(crate) fn for_mutation(&self, name: &str) -> Self {
        self.coming_from(Access { mutation: Some(name.to_owned()), ..self.source().clone() })
    }

    /// What the caller may do.
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Where the caller's request comes from.
    pub(crate) fn source(&self) -> &Access {
        &self.source
    }

    /// The party that makes the request.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The nonce of a lease that the caller has sent.
    pub(crate) fn lease_nonce(&self) -> Option<&str> {
        self.lease_nonce.as_deref()
    }

    /// The nonce of a new lease.
    pub(crate) fn new_nonce(&self) -> String {
        let random = || format!("{:016x}", self.rng().bits());
        self.request.as_ref().map_or_else(random, RequestId::nonce)
    }

    /// The same for a request that carries an idempotency key.
    pub(crate) fn for_request(&self, request: Option<RequestId>) -> Self {
        Self { request, ..self.clone() }
    }

    /// The same for the request of a caller, by its name, with an idempotency key: what is
    /// done for it is done once, also if an earlier process has done it.
    #[must_use]
    pub fn keyed(&self, caller: &str, key: &str) -> Self {
        self.for_request(Some(RequestId::new(caller, key)))
    }

    /// The request, if it carries an idempotency key.
    pub(crate) fn request(&self) -> Option<&RequestId> {
        self.request.as_ref()
    }

    /// Requests with idempotency keys that are carried out now.
    pub(crate) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Owns work that outlives its request.
    pub fn tasks(&self) -> &rt::Tasks {
        &self.ports.tasks
    }

    /// For moments that are stored.
    pub fn clock(&self) -> &rt::Clock {
        &self.ports.clock
    }

    /// For ids and names.
    pub fn rng(&self) -> &rt::Rng {
        &self.ports.rng
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Records in memory. `lookup` reads them.
    pub(crate) fn cache(&self) -> &RecordsCache {
        &self.cache
    }

    /// Seals secrets in the store.
    pub(crate) fn secrets_key(&self) -> &seal::SealingKey {
        &self.ports.secrets_key
    }

    pub(crate) fn hosts(&self) -> &dyn Hosts {
        &*self.ports.hosts
    }

    /// The right to read and write counters.
    pub(crate) async fn lock_counters(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.counters.lock().await
    }

    /// Numbers of machines that have been reserved and are still to be given away.
    pub(crate) async fn machine_numbers(&self) -> tokio::sync::MutexGuard<'_, Range<u64>> {
        self.machine_numbers.lock().await
    }

    /// Creates that are still to be confirmed.
    pub(crate) fn confirmations(&self) -> &Confirmations {
        &self.confirmations
    }

    /// Records that cannot be read and have been logged.
    pub(crate) fn unreadable(&self) -> &Unreadable {
        &self.unreadable
    }

    /// Regions of the hosts, as each last answered.
    pub(crate) fn host_regions(&self) -> MutexGuard<'_, BTreeMap<HostId, String>> {
        self.host_regions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When tokens were last used.
    pub(crate) fn token_uses(&self) -> &TokenUses {
        &self.token_uses
    }

    /// The same with other rights of the caller.
    #[must_use]
    pub(crate) fn with_rights(&self, rights: Rights) -> Self {
        Self { rights, ..self.clone() }
    }

    /// The JSON of events that are watched.
    pub(crate) fn event_texts(&self) -> &EventTexts {
        &self.event_texts
    }

    /// Logins that have begun.
    pub(crate) fn logins(&self) -> &Logins {
        &self.logins
    }

    /// Which secrets hosts have.
    pub(crate) fn delivered(&self) -> &Delivered {
        &self.delivered
    }

    /// Context of a call to a host that is to be answered within `time`.
    pub(crate) fn context(&self, time: Duration) -> CallContext {
        let source = match self.caller {
            Caller::Control | Caller::Host(_) => Source::Host,
            Caller::Edge => Source::Proxy,
            Caller::Token(_) | Caller::Machine(_) => Source::User,
        };
        let context = CallContext::new(self.caller.clone(), source, Deadline::within(time));
        CallContext { lease_nonce: self.lease_nonce.clone(), ..context }
    }

    /// Runs `work` to its end also when the client goes away in between.
    pub(crate) async fn run_detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let done = self.ports.tasks.spawn(work).await;
        done.unwrap_or_else(|err| Err(Error::internal(format!("the operation broke off: {err}"))))
    }
}
