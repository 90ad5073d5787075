//! Images, by the references that clients write.

use super::super::session::Session;
use crate::Error;
use crate::access::{Subject, write};
use crate::error::shortened;
use crate::images::{self, NameParts};
use serde_json::{Value, json};

/// `App.image`. Of one that a registry has the size is not known, and its field is 0.
///
/// # Errors
/// There is none. A caller that may only read gets no answer about images of registries.
pub(super) async fn resolve(session: &Session, app: &str, reference: &str) -> Result<Value, Error> {
    let known = images::find(&session.platform, reference).await?;
    let (digest, size) = match known {
        Some(image) => (image.digest, image.size),
        None => {
            // A host asks a registry, as it does for a machine of this image.
            session.may_app(write(Subject::App), app).await?;
            (images::resolve(&session.platform, reference).await?, 0)
        }
    };
    Ok(json!({
        "id": digest,
        "digest": digest,
        "ref": reference,
        "compressedSizeFull": size.to_string(),
        "manifest": null,
    }))
}

/// `Queries.latestImageDetails`: what a name leads to now.
///
/// # Errors
/// The platform has no such image.
pub(super) async fn latest(session: &Session, reference: &str) -> Result<Value, Error> {
    let found = images::find(&session.platform, reference).await?;
    let found = found.ok_or_else(|| unknown_repository(reference))?;
    let NameParts { registry, repository, tag, .. } = NameParts::of(reference);
    Ok(json!({
        "registry": registry,
        "repository": repository,
        "tag": tag,
        "version": null,
        "digest": found.digest,
    }))
}

/// Begins with the text that clients look for.
pub(super) fn unknown_repository(name: &str) -> Error {
    Error::not_found(format!("Unknown repository {:?}", shortened(name, 200)))
        .hint("`updraft image list` shows the images of this platform")
}
