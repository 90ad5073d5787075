//! The hosts that this process calls: its own, and its peers.

use super::failed;
use crate::error::DaemonError;
use crate::settings::Settings;
use camino::Utf8Path;
use host_api::{FixedHosts, Hosts, KnownHost};
use host_remote::{Credentials, RemoteHost, TlsDial};
use rt::Tasks;
use std::sync::Arc;
use worker::Worker;

/// What this process shows to its peers, and whom it trusts.
pub(super) struct Identity {
    /// Certificate of the platform's authority, PEM.
    pub(super) authority: String,
    /// Certificate and key of this process.
    pub(super) own: Credentials,
}

/// Reads the certificates that the settings name.
pub(super) fn identity(settings: &Settings) -> Result<Identity, DaemonError> {
    let Some(tls) = &settings.tls else {
        let hint = "Make certificates with `updraft certificates`, and name them with --tls-ca, \
                    --tls-cert and --tls-key.";
        return Err(
            DaemonError::usage("Cannot talk to other hosts without certificates").hint(hint)
        );
    };
    let own = Credentials { certificate: read(&tls.cert)?, key: read(&tls.key)? };
    Ok(Identity { authority: read(&tls.ca)?, own })
}

fn read(path: &Utf8Path) -> Result<String, DaemonError> {
    let text = std::fs::read_to_string(path);
    text.map_err(|err| DaemonError::failed(format!("Cannot read {path}")).because_of(&err))
}

/// The host of this process, if it is one, and those of its peers.
pub(super) fn hosts(
    settings: &Settings,
    own: Option<Worker>,
    tasks: &Tasks,
) -> Result<Arc<dyn Hosts>, DaemonError> {
    let mut known = Vec::new();
    if let Some(worker) = own {
        known.push(KnownHost { id: settings.host.number, host: Arc::new(worker) });
    }
    if !settings.peers.is_empty() {
        let identity = identity(settings)?;
        for peer in &settings.peers {
            let address = peer.address.to_string();
            let dial = TlsDial::new(&peer.name, &address, &identity.authority, &identity.own);
            let dial = dial.map_err(|err| failed(&format!("call host {}", peer.name), &err))?;
            known.push(RemoteHost::new(peer.number, Arc::new(dial), tasks.child()).known());
        }
    }
    Ok(Arc::new(FixedHosts::new(known)))
}
