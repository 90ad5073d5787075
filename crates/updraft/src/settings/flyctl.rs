//! `[flyctl]`: what clients of Fly.io find beside the API.

use super::layers::Layers;
use super::{Settings, parse as values};
use std::net::IpAddr;

/// `[flyctl]`.
#[derive(Clone, Debug)]
pub(crate) struct FlyctlSettings {
    /// The address that clients dial for a tunnel.
    pub(crate) tunnel_address: Option<IpAddr>,
    /// The API is served under host names of Fly.io.
    pub(crate) host_names: bool,
}

pub(super) fn parse(from: &Layers, p: &mut Vec<String>) -> FlyctlSettings {
    FlyctlSettings {
        tunnel_address: from.parse("flyctl.tunnel_address", p, values::optional_ip),
        host_names: from.parse("flyctl.host_names", p, values::flag),
    }
}

/// Addresses that clients could not dial, or that would make the API public.
pub(super) fn problem(from: &Layers, settings: &Settings) -> Option<String> {
    let (FlyctlSettings { tunnel_address, host_names }, listen) =
        (&settings.flyctl, &settings.listen);
    let Some(tunnel) = listen.tunnel else {
        let why = "it needs listen.tunnel, which is off";
        return host_names.then(|| from.complaint("flyctl.host_names", why));
    };
    if tunnel.ip().is_unspecified() && tunnel_address.is_none() {
        let why = "clients have to be given one address to dial: give flyctl.tunnel_address";
        return Some(from.complaint("listen.tunnel", why));
    }
    if *host_names && !tunnel.ip().is_loopback() && !listen.allow_remote_api {
        let why = "with flyctl.host_names the API is served there: it has to be a loopback address, \
                   or give --allow-remote-api=true";
        return Some(from.complaint("listen.tunnel", why));
    }
    None
}
