//! Images of the hosts.

use crate::error::shortened;
use crate::hosts::{CHANGE_TIMEOUT, READ_TIMEOUT, ask_all, within};
use crate::{Error, Kind, Platform};
use futures_util::stream::BoxStream;
use host_api::{Host, ImageUpload};
use std::sync::Arc;
use std::time::Duration;
use wire::machines::{Image, ImageProgress};

/// Longest import; an upload that stands still is cut by the front long before.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

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

/// Imports an image from a tar to the first host; the stream of its progress ends
/// with `Done` or `Failed`.
///
/// # Errors
/// The host cannot be reached, or refuses.
pub async fn import(
    platform: &Platform,
    name: Option<String>,
    tar: ImageUpload,
) -> Result<BoxStream<'static, ImageProgress>, Error> {
    let host = platform.hosts().all().into_iter().next();
    let host = host.ok_or_else(|| Error::new(Kind::Unavailable, "there is no host"))?.host;
    Ok(host.import_image(platform.context(IMPORT_TIMEOUT), name, tar).await?)
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
