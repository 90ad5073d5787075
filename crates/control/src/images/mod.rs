//! Images of the hosts.

mod import;
mod names;
mod resolve;

pub use import::import;
pub(crate) use names::NameParts;
pub use resolve::{find, resolve};

use crate::error::shortened;
use crate::hosts::{CHANGE_TIMEOUT, READ_TIMEOUT, ask_all, within};
use crate::{Error, Platform};
use host_api::Host;
use std::sync::Arc;
use wire::machines::Image;

/// Images of the hosts that answer, each once.
///
/// # Errors
/// No host answered.
pub async fn list(platform: &Platform) -> Result<Vec<Image>, Error> {
    let ask = |host: Arc<dyn Host>| {
        let context = platform.context(READ_TIMEOUT);
        async move { host.images(context).await }
    };
    let mut images: Vec<Image> = Vec::new();
    for image in ask_all(platform, ask).await.some()?.into_iter().flatten() {
        match images.iter_mut().find(|known| known.digest == image.digest) {
            Some(known) => {
                known.used_by += image.used_by;
                let new = image.references.into_iter();
                let new: Vec<_> = new.filter(|name| !known.references.contains(name)).collect();
                known.references.extend(new);
            }
            None => images.push(image),
        }
    }
    Ok(images)
}

/// Removes a name or a digest from all hosts.
///
/// # Errors
/// No host has it, or a host could not be asked.
pub async fn remove(platform: &Platform, reference: &str) -> Result<(), Error> {
    let (mut removed, mut failure) = (false, None);
    for known in platform.hosts().all() {
        let asked = known.host.remove_image(platform.context(CHANGE_TIMEOUT), reference.to_owned());
        match within(CHANGE_TIMEOUT, asked).await {
            Ok(found) => removed |= found,
            Err(err) => failure = Some(err),
        }
    }
    match failure {
        // Where the host was away the name would still be there.
        Some(err) => Err(err.into()),
        None if removed => Ok(()),
        None => {
            let reference = shortened(reference, 200);
            Err(Error::not_found(format!("there is no image {reference:?}"))
                .hint("`updraft image list` shows the images of this platform"))
        }
    }
}
