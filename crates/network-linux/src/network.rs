//! The worker's port on taps in a network namespace of the platform.

use crate::config::NetworkConfig;
use crate::interface::sysctl;
use crate::namespace::{Guard, Namespace, NamespaceSockets, Uplink};
use crate::owner;
use crate::taps::Taps;
use async_trait::async_trait;
use model::address::Slot;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use worker::ports::{Link, Network, Nic, PortError};

/// [`Network`] on Linux: a network namespace with a routed tap per machine and
/// one nftables table, and a link from it to the daemon's own namespace.
///
/// `prepare` turns on forwarding for the daemon's namespace. Before it does so
/// for IPv6, `accept_ra` 1 becomes 2, or a host that has its default route from
/// router advertisements would lose it.
///
/// A parked tap costs a descriptor and an interface. It is up and has its
/// addresses, but its rules let nothing through: connections to it are reset at
/// once. Its carrier stays on: the kernel takes up to a second to act on a
/// change, and loses the first frames after it.
#[derive(Debug)]
pub struct LinuxNetwork {
    shared: Arc<Shared>,
    guard: Mutex<Option<Guard>>,
}

#[derive(Debug)]
struct Shared {
    config: NetworkConfig,
    uplink: Uplink,
    platform: Mutex<Option<Arc<Platform>>>,
    sockets: NamespaceSockets,
}

/// The platform's namespace with its taps.
#[derive(Debug)]
struct Platform {
    namespace: Arc<Namespace>,
    taps: Taps,
}

impl LinuxNetwork {
    /// The network of one platform, whose link leads to the network namespace of
    /// the calling thread. Changes nothing yet. Must be called inside a runtime
    /// all of whose threads are in that namespace.
    ///
    /// # Errors
    /// Another data directory has a platform with the same tag, or no netlink socket can
    /// be opened.
    pub fn open(config: NetworkConfig) -> Result<Self, PortError> {
        owner::check(&config)?;
        let uplink = Uplink::open(config.clone())?;
        let (platform, sockets) = (Mutex::default(), NamespaceSockets::new());
        let shared = Arc::new(Shared { config, uplink, platform, sockets });
        Ok(Self { shared, guard: Mutex::default() })
    }

    /// Sockets for connections to guests. They can be made once `prepare` has
    /// succeeded.
    pub fn sockets(&self) -> NamespaceSockets {
        self.shared.sockets.clone()
    }

    /// Runs `work` on a thread for blocking work: the kernel may take tens of
    /// milliseconds to create or remove an interface.
    async fn blocking<T: Send + 'static>(
        &self,
        attempted: &'static str,
        work: impl FnOnce(&Shared) -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        let shared = self.shared.clone();
        let done = tokio::task::spawn_blocking(move || work(&shared)).await;
        done.map_err(|err| PortError::new(attempted, err))?
    }

    fn start_guard(&self) -> Result<(), PortError> {
        let shared = Arc::downgrade(&self.shared);
        let guard = Guard::start(move |periodic| check(&shared, periodic))?;
        *self.guard.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
        Ok(())
    }
}

impl Shared {
    fn platform(&self) -> MutexGuard<'_, Option<Arc<Platform>>> {
        // It is replaced as a whole.
        self.platform.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The namespace, if it exists.
    fn existing(&self) -> Result<Option<Arc<Platform>>, PortError> {
        let mut platform = self.platform();
        if platform.is_none()
            && let Some(namespace) = Namespace::open(&self.config.namespace)?
        {
            *platform = Some(Arc::new(Platform::open(namespace, &self.config)?));
        }
        Ok(platform.clone())
    }

    fn prepare(&self) -> Result<(), PortError> {
        owner::claim(&self.config)?;
        let existing = self.existing()?;
        let platform = match existing {
            Some(platform) => platform,
            None => {
                let namespace = Namespace::open_or_create(&self.config.namespace)?;
                let opened = Arc::new(Platform::open(namespace, &self.config)?);
                self.platform().insert(opened).clone()
            }
        };
        let Platform { namespace, taps } = &*platform;
        let host = self.uplink.host_networks()?;
        namespace.run(|| taps.prepare(host))??;
        sysctl::enable_forwarding()?;
        self.uplink.ensure(namespace, taps.links())?;
        // The link's own addresses belong to the host, too.
        taps.set_host_networks(self.uplink.host_networks()?)?;
        self.uplink.move_earlier_taps(namespace, taps.links())?;
        self.sockets.serve(namespace.clone())
    }

    /// Runs `work` on the taps, with the calling thread in the namespace.
    fn inside<T>(&self, work: impl FnOnce(&Taps) -> Result<T, PortError>) -> Result<T, PortError> {
        let Some(platform) = self.existing()? else {
            let path = &self.config.namespace;
            return Err(PortError::plain(format!(
                "use the network namespace {path}: it does not exist; restart the daemon"
            )));
        };
        platform.namespace.run(|| work(&platform.taps))?
    }

    fn list(&self) -> Result<Vec<Slot>, PortError> {
        let earlier = self.uplink.earlier_taps()?;
        let mut slots: std::collections::BTreeSet<Slot> =
            earlier.iter().filter_map(|tap| self.config.tag.slot_of(tap)).collect();
        if self.existing()?.is_some() {
            slots.extend(self.inside(Taps::list)?);
        }
        Ok(slots.into_iter().collect())
    }

    fn remove_all(&self) -> Result<(), PortError> {
        if self.existing()?.is_some() {
            self.inside(Taps::remove_taps)?;
        }
        self.uplink.remove_earlier()?;
        self.sockets.stop();
        *self.platform() = None;
        self.uplink.remove()?;
        Namespace::remove(&self.config.namespace)?;
        owner::release(&self.config)
    }

    /// Restores what is missing. Errors are logged: the next look tries again.
    fn check(&self, periodic: bool) {
        let Some(platform) = self.platform().clone() else { return };
        let Platform { namespace, taps } = &*platform;
        let uplink = self.uplink.is_complete().and_then(|complete| match complete {
            true => Ok(()),
            false => {
                tracing::warn!(
                    "rules or link of the machines' network were removed from the host; \
                     restoring them"
                );
                self.uplink.ensure(namespace, taps.links())
            }
        });
        let networks = self.uplink.host_networks().and_then(|host| taps.set_host_networks(host));
        let rules = match periodic {
            true => namespace.run(|| taps.restore_rules()).flatten(),
            false => Ok(false),
        };
        if matches!(rules, Ok(true)) {
            tracing::warn!("rules in the platform's network namespace were removed; restored");
        }
        for err in [uplink.err(), networks.err(), rules.err()].into_iter().flatten() {
            tracing::error!(
                error = rt::chain(&err),
                "the machines' network is not as it should be"
            );
        }
    }
}

/// One pass of the guard. Returns whether the guard continues.
fn check(shared: &Weak<Shared>, periodic: bool) -> bool {
    let Some(shared) = shared.upgrade() else { return false };
    shared.check(periodic);
    true
}

impl Platform {
    fn open(namespace: Namespace, config: &NetworkConfig) -> Result<Self, PortError> {
        let taps = namespace.run(|| Taps::open(config.clone()))??;
        Ok(Self { namespace: Arc::new(namespace), taps })
    }
}

#[async_trait]
impl Network for LinuxNetwork {
    async fn prepare(&self) -> Result<(), PortError> {
        self.blocking("prepare the network", Shared::prepare).await?;
        self.start_guard()
    }

    async fn open_name_servers(&self, servers: &[IpAddr]) -> Result<(), PortError> {
        let is_open = |platform: &Platform| platform.taps.name_servers_are_open(servers);
        if self.shared.platform().as_deref().is_some_and(is_open) {
            return Ok(());
        }
        let servers = servers.to_vec();
        self.blocking("open name servers to guests", move |net| {
            net.inside(|taps| taps.open_name_servers(&servers))
        })
        .await
    }

    async fn attach(&self, link: Link) -> Result<Nic, PortError> {
        self.blocking("attach a tap", move |net| net.inside(|taps| taps.attach(link))).await
    }

    async fn adopt(&self, link: Link) -> Result<(), PortError> {
        self.blocking("adopt a tap", move |net| net.inside(|taps| taps.adopt(link))).await
    }

    async fn park(&self, slot: Slot) {
        let parked = self.blocking("park a tap", move |net| {
            net.inside(|taps| taps.park(slot).and_then(|()| taps.evict()))
        });
        if let Err(err) = parked.await {
            tracing::warn!(slot = slot.0, error = rt::chain(&err), "remains of a slot");
        }
    }

    async fn detach(&self, slot: Slot) -> Result<(), PortError> {
        self.blocking("detach a tap", move |net| match net.existing()? {
            Some(_) => net.inside(|taps| taps.detach(slot)),
            None => Ok(()),
        })
        .await
    }

    async fn list(&self) -> Result<Vec<Slot>, PortError> {
        self.blocking("list taps", Shared::list).await
    }

    async fn remove_all(&self) -> Result<(), PortError> {
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(guard);
        self.blocking("remove the network", Shared::remove_all).await
    }
}
