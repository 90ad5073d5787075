//! What a reference leads to.

use super::list;
use super::names::NameParts;
use crate::error::shortened;
use crate::hosts::within;
use crate::{Error, Kind, Platform};
use host_api::{HostError, KnownHost};
use std::time::Duration;
use wire::machines::Image;

/// Time of a host to ask a registry.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The image of the platform that a reference leads to, if it has one.
///
/// # Errors
/// No host answered.
pub async fn find(platform: &Platform, reference: &str) -> Result<Option<Image>, Error> {
    let wanted = NameParts::of(reference);
    Ok(list(platform).await?.into_iter().find(|image| wanted.is_of(image)))
}

/// The digest of a reference that the platform has no image of, which a host asks a registry
/// for.
///
/// # Errors
/// There is no such image, no registry answered, or no host can be reached.
pub async fn resolve(platform: &Platform, reference: &str) -> Result<String, Error> {
    let mut failure = HostError::unreachable("there is no host".to_owned());
    for KnownHost { host, .. } in platform.hosts().all() {
        let asked = host.resolve_image(platform.context(RESOLVE_TIMEOUT), reference.to_owned());
        match within(RESOLVE_TIMEOUT, asked).await {
            Ok(image) => return Ok(image.digest),
            // Another one may be there.
            Err(err @ HostError::Unavailable { .. }) => failure = err,
            Err(err) => return Err(not_resolved(reference, err)),
        }
    }
    Err(not_resolved(reference, failure))
}

fn not_resolved(reference: &str, err: HostError) -> Error {
    let shown = shortened(reference, 200);
    let kind = match &err {
        HostError::NotFound(_) => Kind::NotFound,
        HostError::Invalid(_) => Kind::Invalid,
        HostError::DeadlineExceeded(_) | HostError::Internal(_) => Kind::BadGateway,
        _ => return err.into(),
    };
    let hint = match kind {
        Kind::BadGateway => "the registry did not answer; imported images need none",
        _ => "import it with `updraft image import`, or check the reference",
    };
    Error::new(kind, format!("could not find image {shown:?}: {err}")).hint(hint)
}
