//! What the edge needs of hosts and of the control plane, and nothing more.

use host_api::{Connections, Hosts, KnownHost, Load, Logs, Routes};
use model::id::{AppId, HostId};
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// One host, as far as an edge calls it.
#[derive(Clone)]
pub struct EdgeHost {
    /// Its number in the platform.
    pub id: HostId,
    /// Streams its machines' routes.
    pub routes: Arc<dyn Routes>,
    /// Wakes its machines and puts idle ones down.
    pub load: Arc<dyn Load>,
    /// Connects to its guests.
    pub connections: Arc<dyn Connections>,
    /// Takes lines for the logs of its machines' apps.
    pub logs: Arc<dyn Logs>,
}

impl fmt::Debug for EdgeHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeHost").field("id", &self.id).finish_non_exhaustive()
    }
}

impl EdgeHost {
    /// A host in this process, or a client of one.
    pub fn new<T>(id: HostId, host: Arc<T>) -> Self
    where
        T: Routes + Load + Connections + Logs + 'static,
    {
        Self { id, routes: host.clone(), load: host.clone(), connections: host.clone(), logs: host }
    }

    /// Whether both are the same host, called in the same way.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        fn is_one<T: ?Sized>(one: &Arc<T>, other: &Arc<T>) -> bool {
            std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
        }
        self.id == other.id
            && is_one(&self.routes, &other.routes)
            && is_one(&self.load, &other.load)
            && is_one(&self.connections, &other.connections)
            && is_one(&self.logs, &other.logs)
    }

    /// The hosts that an edge follows, kept equal to `hosts` by a task of `tasks`.
    pub fn watch(hosts: &dyn Hosts, tasks: &rt::Tasks) -> watch::Receiver<Vec<Self>> {
        let mut known = hosts.watch();
        let all = |known: &[KnownHost]| known.iter().cloned().map(Self::from).collect();
        let first = all(&known.borrow_and_update());
        let (to, from) = watch::channel(first);
        tasks.spawn_until_stop(async move {
            while known.changed().await.is_ok() {
                let now = all(&known.borrow_and_update());
                to.send_replace(now);
            }
            // The list no longer changes; it stays valid.
            to.closed().await;
        });
        from
    }
}

impl From<KnownHost> for EdgeHost {
    fn from(known: KnownHost) -> Self {
        let host = known.host;
        Self {
            id: known.id,
            routes: host.clone(),
            load: host.clone(),
            connections: host.clone(),
            logs: host,
        }
    }
}

/// Which apps exist. Hosts only report machines, so the edge needs this to distinguish
/// an app without machines from a name that no app has.
pub trait Directory: Send + Sync + 'static {
    /// The app of this name, if there is one. Called on the request path: it must not wait.
    fn app_id(&self, name: &str) -> Option<AppId>;
}

/// A directory that knows no app: each app is known by its machines alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDirectory;

impl Directory for NoDirectory {
    fn app_id(&self, _name: &str) -> Option<AppId> {
        None
    }
}
