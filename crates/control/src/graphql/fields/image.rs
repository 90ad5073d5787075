//! Images that the platform has imported. Others are resolved by the host that starts a machine of
//! them.

use super::super::session::Session;
use crate::error::shortened;
use crate::{Error, images};
use serde_json::{Value, json};
use wire::machines::Image;

/// A reference without its digest: where it leads, as the parts of its name.
struct Parts<'a> {
    registry: &'a str,
    repository: &'a str,
    tag: &'a str,
    digest: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(reference: &'a str) -> Self {
        let (name, digest) = match reference.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (reference, None),
        };
        let (path, tag) = match name.rsplit_once(':') {
            // The colon of a port is followed by a path.
            Some((path, tag)) if !tag.contains('/') => (path, tag),
            _ => (name, "latest"),
        };
        let (registry, repository) = match path.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (first, rest)
            }
            _ => ("docker.io", path),
        };
        let repository = match registry {
            "docker.io" => repository.strip_prefix("library/").unwrap_or(repository),
            _ => repository,
        };
        Self { registry, repository, tag, digest }
    }

    /// Whether an image has this name, or its digest.
    fn is_of(&self, image: &Image) -> bool {
        if let Some(digest) = self.digest {
            return image.digest == digest;
        }
        image.references.iter().map(|name| Parts::of(name)).any(|name| {
            (name.registry, name.repository, name.tag) == (self.registry, self.repository, self.tag)
        })
    }
}

async fn find(session: &Session, reference: &str) -> Result<Option<Image>, Error> {
    let wanted = Parts::of(reference);
    let known = images::list(&session.platform).await?;
    Ok(known.into_iter().find(|image| wanted.is_of(image)))
}

/// `App.image`.
///
/// # Errors
/// The platform has not imported it.
pub(super) async fn resolve(session: &Session, reference: &str) -> Result<Value, Error> {
    let Some(image) = find(session, reference).await? else {
        let shown = shortened(reference, 200);
        let why = format!("Could not find image {shown:?}: the platform has not imported it");
        return Err(Error::not_found(why).hint("import it: `updraft image import`"));
    };
    Ok(json!({
        "id": image.digest,
        "digest": image.digest,
        "ref": reference,
        "compressedSizeFull": image.size.to_string(),
        "manifest": null,
    }))
}

/// `Queries.latestImageDetails`: what a name leads to now.
///
/// # Errors
/// The platform has not imported it.
pub(super) async fn latest(session: &Session, reference: &str) -> Result<Value, Error> {
    let found = find(session, reference).await?.ok_or_else(|| unknown_repository(reference))?;
    let Parts { registry, repository, tag, .. } = Parts::of(reference);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_compared_however_it_is_written() {
        let image = Image {
            references: vec![
                "web".into(),
                "docker.io/library/nginx:1".into(),
                "r.test:5000/a:2".into(),
            ],
            digest: "sha256:ab".into(),
            size: 1,
            created_at: String::new(),
            used_by: 0,
        };
        for (reference, is_it) in [
            ("web", true),
            ("web:latest", true),
            ("docker.io/library/web", true),
            ("web:2", false),
            ("nginx:1", true),
            ("nginx:1@sha256:ab", true),
            ("nginx:1@sha256:cd", false),
            ("r.test:5000/a:2", true),
            ("r.test:5000/a", false),
            ("other.test/web", false),
        ] {
            assert_eq!(Parts::of(reference).is_of(&image), is_it, "{reference}");
        }
    }
}
