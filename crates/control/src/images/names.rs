//! Names of images as clients write them, compared with those of the platform's images.

use wire::machines::Image;

/// Registry of names without one (<https://docs.docker.com/reference/cli/docker/image/tag/>).
const DEFAULT_REGISTRY: &str = "docker.io";
/// Part of the default registry's names that may be left out.
const LIBRARY: &str = "library/";

/// The parts of a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NameParts<'a> {
    pub(crate) registry: &'a str,
    pub(crate) repository: &'a str,
    pub(crate) tag: &'a str,
    digest: Option<&'a str>,
}

impl<'a> NameParts<'a> {
    /// Those of a reference, with the usual defaults.
    pub(crate) fn of(reference: &'a str) -> Self {
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
            _ => (DEFAULT_REGISTRY, path),
        };
        let repository = match registry {
            DEFAULT_REGISTRY => repository.strip_prefix(LIBRARY).unwrap_or(repository),
            _ => repository,
        };
        Self { registry, repository, tag, digest }
    }

    /// Whether an image has this digest or, if there is none, this name.
    pub(super) fn is_of(&self, image: &Image) -> bool {
        match self.digest {
            Some(digest) => image.digest == digest,
            None => image.references.iter().any(|name| NameParts::of(name) == *self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_compared_however_it_is_written() {
        let names = ["web", "docker.io/library/nginx:1", "r.test:5000/a:2"];
        let image = Image {
            references: names.map(str::to_owned).into(),
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
            assert_eq!(NameParts::of(reference).is_of(&image), is_it, "{reference}");
        }
    }
}
