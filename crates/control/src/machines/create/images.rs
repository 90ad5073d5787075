//! The images of a machine's config, resolved on the host that is to run it.

use crate::hosts::within;
use crate::{Error, Kind, Platform};
use host_api::{Host, HostError};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::machines::{ImageRef, MachineConfig};

/// Time to resolve an image, for which the host may have to ask a registry.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(120);

/// What the images of a config resolved to.
#[derive(Clone, Debug)]
pub(in super::super) struct Resolved {
    /// The machine's image, else that of its first container.
    pub(in super::super) root: ImageRef,
    /// Those of its containers, by reference.
    pub(in super::super) containers: BTreeMap<String, ImageRef>,
}

/// Resolves all images of a config on a host.
pub(in super::super) async fn resolve_images(
    platform: &Platform,
    host: &dyn Host,
    config: &MachineConfig,
) -> Result<Resolved, Error> {
    resolve_with(platform, host, config, None).await
}

/// The same, if that of the machine is `known`.
pub(in super::super) async fn resolve_with(
    platform: &Platform,
    host: &dyn Host,
    config: &MachineConfig,
    known: Option<ImageRef>,
) -> Result<Resolved, Error> {
    let mut containers: BTreeMap<String, ImageRef> = BTreeMap::new();
    let mut first = None;
    for (i, container) in config.containers.iter().flatten().enumerate() {
        let Some(image) = container.image.as_deref().filter(|image| !image.is_empty()) else {
            continue;
        };
        if !containers.contains_key(image) {
            let field = format!("config.containers[{i}].image");
            let resolved = resolve_image(platform, host, &field, image).await?;
            containers.insert(image.to_owned(), resolved);
        }
        first = first.or_else(|| containers.get(image).cloned());
    }
    let root = match (known, config.image.as_str(), first) {
        (Some(known), _, _) => known,
        (None, "", Some(first)) => first,
        (None, image, _) => resolve_image(platform, host, "config.image", image).await?,
    };
    Ok(Resolved { root, containers })
}

/// Resolves the image of a config on a host.
async fn resolve_image(
    platform: &Platform,
    host: &dyn Host,
    field: &str,
    image: &str,
) -> Result<ImageRef, Error> {
    let asked = host.resolve_image(platform.context(RESOLVE_TIMEOUT), image.to_owned());
    within(RESOLVE_TIMEOUT, asked).await.map_err(|err| {
        let kind = match &err {
            HostError::NotFound(_) | HostError::Invalid(_) => Kind::Invalid,
            // Resolving a reference changes nothing, whether it reached the host or not.
            HostError::Unavailable { message, .. } => {
                return HostError::unreachable(message.clone()).into();
            }
            // Nothing has been done yet, so that a client may safely try again.
            HostError::DeadlineExceeded(_) | HostError::Internal(_) => Kind::BadGateway,
            _ => return err.into(),
        };
        let hint = match kind {
            Kind::Invalid => "import it with `updraft image import`, or check the reference",
            _ => "the registry did not answer; imported images need none",
        };
        let failed = Error::new(kind, format!("resolve {image:?}: {err}")).hint(hint);
        Error { field: Some(field.into()), ..failed }
    })
}
