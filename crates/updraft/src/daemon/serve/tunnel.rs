//! The address of `listen.tunnel` from the settings to what runs there, and what clients are given
//! of it. Nothing but tunnels and Fly.io's host names depends on it: where it cannot be bound the
//! daemon starts all the same, and those are refused with the reason.

use super::tls::{self, Certificates, FLY_NAMES, TlsProblem};
use crate::daemon::{failed, token};
use crate::error::DaemonError;
use crate::settings::Settings;
use control::HostNames;
use control::http_api::HttpApi;
use control::wireguard::{Gateway, GatewayKey};
use rt::{Clock, Rng};
use std::io::ErrorKind;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// A listener, or why there is none.
pub(in crate::daemon) type Bound = Result<(TcpListener, SocketAddr), String>;

/// Binds the address; warns if that is not possible.
pub(in crate::daemon) async fn bind(address: SocketAddr) -> Bound {
    let listener = TcpListener::bind(address).await;
    let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
    bound.map(|(address, listener)| (listener, address)).map_err(|err| {
        let remedy = match err.kind() {
            ErrorKind::PermissionDenied => "run it as root, or with CAP_NET_BIND_SERVICE",
            ErrorKind::AddrInUse => "give another address with --tunnel, such as 127.0.0.44",
            _ => "give an address of this host with --tunnel",
        };
        tracing::warn!(
            %address, error = %err, remedy,
            "cannot listen for tunnels of flyctl; they are refused, everything else works \
             (--tunnel off ends this warning)"
        );
        format!("the daemon cannot listen on {address} ({err}); {remedy}")
    })
}

/// What is at the address.
#[derive(Debug)]
pub(in crate::daemon) struct Tunnel(Result<Open, Option<String>>);

#[derive(Debug)]
struct Open {
    listener: TcpListener,
    address: SocketAddr,
    certificates: Certificates,
}

impl Tunnel {
    /// With its certificates. `bound` is `None` if no address is set.
    pub(in crate::daemon) fn open(
        settings: &Settings,
        bound: Option<Bound>,
        clock: &Clock,
    ) -> Result<Self, DaemonError> {
        let (listener, address) = match bound {
            Some(Ok(bound)) => bound,
            Some(Err(reason)) => return Ok(Self(Err(Some(reason)))),
            None => return Ok(Self(Err(None))),
        };
        let file = settings.data_dir.join("host-names-ca.pem");
        let file = settings.flyctl.host_names.then_some(file);
        let certificates =
            Certificates::open(file.as_deref(), clock).map_err(|err| no_tls(&err))?;
        Ok(Self(Ok(Open { listener, address, certificates })))
    }

    /// What clients are given for a tunnel.
    pub(in crate::daemon) fn gateway(
        &self,
        settings: &Settings,
        rng: &Rng,
    ) -> Result<Gateway, DaemonError> {
        let open = match &self.0 {
            Ok(open) => open,
            Err(None) => return Ok(Gateway::default()),
            Err(Some(reason)) => return Ok(Gateway::Off { reason: reason.clone() }),
        };
        let (name, path) = ("WireGuard key", settings.data_dir.join("wireguard.key"));
        let text = token::read_or_make_with(name, &path, || GatewayKey::generate(rng))?;
        let key = GatewayKey::parse(&text);
        let key = key.map_err(|err| failed(&format!("use the {name} {path}"), &err))?;
        let address = settings.flyctl.tunnel_address.unwrap_or(open.address.ip());
        Ok(Gateway::At { address, public_key: key.public() })
    }

    /// What clients are given of Fly.io's host names.
    pub(in crate::daemon) fn host_names(&self, settings: &Settings) -> HostNames {
        if !settings.flyctl.host_names {
            return HostNames::default();
        }
        let off = |reason: &str| HostNames::Off { reason: reason.to_owned() };
        match &self.0 {
            Err(reason) => off(reason.as_deref().unwrap_or("no address is set for them")),
            Ok(open) => match open.certificates.authority() {
                None => off("there is no certificate authority"),
                Some(authority) => HostNames::Served {
                    address: open.address,
                    names: FLY_NAMES.map(str::to_owned).to_vec(),
                    ca_certificate: authority.to_owned(),
                },
            },
        }
    }

    /// Serves it, until the tasks of the API stop. Its address, if there is one.
    pub(in crate::daemon) fn serve(
        self,
        settings: &Settings,
        api: &HttpApi,
    ) -> Result<Option<SocketAddr>, DaemonError> {
        let Ok(Open { listener, address, certificates }) = self.0 else { return Ok(None) };
        let router = settings.flyctl.host_names.then(|| api.router());
        let served = tls::serve(listener, certificates, router, api.platform().tasks());
        served.map_err(|err| no_tls(&err))?;
        Ok(Some(address))
    }
}

fn no_tls(err: &TlsProblem) -> DaemonError {
    failed("serve tunnels of flyctl over TLS", err)
}
