//! Image references as users write them.

use crate::content::digest::Digest;
use oci_spec::distribution::Reference;
use worker::ports::ImageError;

const MAX_LEN: usize = 1024;

/// A parsed reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Requested {
    /// A digest alone, `sha256:…`: an image of this host.
    Digest(Digest),
    /// The name of an image in a registry, or from an import.
    Name(ImageName),
}

/// A full name: registry, repository, and a tag or digest or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageName(Reference);

impl Requested {
    /// Parses a digest or a name.
    pub(crate) fn parse(text: &str) -> Result<Self, ImageError> {
        match Digest::parse(text) {
            Some(digest) => Ok(Self::Digest(digest)),
            None => ImageName::parse(text).map(Self::Name),
        }
    }
}

impl ImageName {
    /// Parses as Docker does: `nginx` is `docker.io/library/nginx:latest`.
    pub(crate) fn parse(text: &str) -> Result<Self, ImageError> {
        let bad = |problem: String| {
            let reference = text.chars().take(MAX_LEN).collect();
            ImageError::BadReference { reference, problem }
        };
        if text.len() > MAX_LEN {
            return Err(bad(format!("it is longer than {MAX_LEN} bytes")));
        }
        let parsed = match v6_host(text) {
            Some((host, rest)) => {
                format!("localhost/{rest}").parse().map(|found: Reference| rehost(&found, host))
            }
            None => text.parse(),
        };
        let found = parsed.map_err(|err| bad(err.to_string()))?;
        if let Some(digest) = found.digest()
            && Digest::parse(digest).is_none()
        {
            return Err(bad("its digest is not of the form sha256:<64 hex digits>".into()));
        }
        Ok(Self(found))
    }

    /// The full name, which is the same for all ways to write it.
    pub(crate) fn canonical(&self) -> String {
        let (registry, repository) = (self.0.registry(), self.0.repository());
        match (self.0.digest(), self.0.tag()) {
            (Some(digest), _) => format!("{registry}/{repository}@{digest}"),
            (None, tag) => format!("{registry}/{repository}:{}", tag.unwrap_or("latest")),
        }
    }

    /// The registry's host, as names have it.
    pub(crate) fn registry(&self) -> &str {
        self.0.registry()
    }

    /// The host to send requests to, which for Docker Hub is another than in names.
    pub(crate) fn host(&self) -> &str {
        match self.0.registry() {
            "docker.io" => "registry-1.docker.io",
            registry => registry,
        }
    }

    /// The path within the registry.
    pub(crate) fn repository(&self) -> &str {
        self.0.repository()
    }

    /// The repository of an imported image: with its host, unless that is Docker Hub.
    pub(crate) fn local_repository(&self) -> String {
        let path = self.0.repository();
        match self.0.registry() {
            "docker.io" => path.strip_prefix("library/").unwrap_or(path).into(),
            registry => format!("{registry}/{path}"),
        }
    }

    /// For `local/NAME`, as the API shows an imported image, `NAME`, as it was imported:
    /// clients make references of what they are shown.
    pub(crate) fn without_local(&self) -> Option<Self> {
        let path = self.0.repository().strip_prefix("local/")?;
        if self.0.registry() != "docker.io" {
            return None;
        }
        let tag = self.0.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.0.digest().map(|digest| format!("@{digest}")).unwrap_or_default();
        Self::parse(&format!("{path}{tag}{digest}")).ok()
    }

    /// The tag, or empty.
    pub(crate) fn tag(&self) -> &str {
        self.0.tag().unwrap_or_default()
    }

    /// The digest, if the name has one.
    pub(crate) fn digest(&self) -> Option<Digest> {
        Digest::parse(self.0.digest()?)
    }

    /// Whether the registry is on this host, where it is asked over plain HTTP.
    pub(crate) fn is_loopback(&self) -> bool {
        let registry = self.0.registry();
        let host = match registry.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => registry.split(':').next().unwrap_or_default(),
        };
        is_loopback(host)
    }
}

/// Whether a host, without port, is `localhost`, a loopback address, or the
/// unspecified address, by which Linux connects to loopback, too.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let local = |address: std::net::IpAddr| {
        let address = address.to_canonical();
        address.is_loopback() || address.is_unspecified()
    };
    host == "localhost" || address.is_ok_and(local)
}

/// Splits a name with an IPv6 address as its host, such as `[::1]:5000/app`. The
/// grammar of references, and the library, do not know such hosts.
fn v6_host(text: &str) -> Option<(&str, &str)> {
    let (host, rest) = text.split_once('/')?;
    let (address, port) = host.strip_prefix('[')?.split_once(']')?;
    let port_ok = match port.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    let ok = port_ok && address.parse::<std::net::Ipv6Addr>().is_ok();
    ok.then_some((host, rest))
}

fn rehost(found: &Reference, host: &str) -> Reference {
    let (host, path) = (host.to_owned(), found.repository().to_owned());
    match (found.tag().map(str::to_owned), found.digest().map(str::to_owned)) {
        (Some(tag), Some(digest)) => Reference::with_tag_and_digest(host, path, tag, digest),
        (None, Some(digest)) => Reference::with_digest(host, path, digest),
        (tag, None) => Reference::with_tag(host, path, tag.unwrap_or_else(|| "latest".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn an_imported_image_is_found_by_the_name_that_is_shown() {
        let hex = "f".repeat(64);
        let plain = |text: &str| {
            let name = ImageName::parse(text).unwrap().without_local()?;
            Some((name.local_repository(), name.tag().to_owned(), name.digest().is_some()))
        };
        let found =
            |repository: &str, tag: &str, digest| Some((repository.into(), tag.into(), digest));
        assert_eq!(plain("local/hello"), found("hello", "latest", false));
        assert_eq!(plain("local/team/hello:2"), found("team/hello", "2", false));
        assert_eq!(plain(&format!("local/hello:2@sha256:{hex}")), found("hello", "2", true));
        assert_eq!(plain("local/r.test/hello:2"), found("r.test/hello", "2", false));
        for other in ["hello", "me/local/hello", "r.test/local/hello", "localhost/hello"] {
            assert_eq!(plain(other), None, "{other}");
        }
    }

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let hex = "f".repeat(64);
        let mut out = String::new();
        for text in [
            "nginx",
            "me/app:1",
            "localhost:5000/app",
            "127.0.0.1:5000/a/b:t",
            "[::1]:5000/app:t",
            "[2001:db8::1]/app",
            "ghcr.io/o/r:v1",
            &format!("nginx:1@sha256:{hex}"),
            &format!("sha256:{hex}"),
            "index.docker.io/library/nginx",
            "UPPER",
            "a/../b",
            "",
            "nginx@sha256:abc",
            "http://x/y",
        ] {
            let line = match Requested::parse(text) {
                Ok(Requested::Digest(digest)) => format!("digest {}", digest.short()),
                Ok(Requested::Name(name)) => format!(
                    "{} at {}{}, imported as {}",
                    name.canonical().replace(&hex, "f…"),
                    name.host(),
                    if name.is_loopback() { " (loopback)" } else { "" },
                    name.local_repository()
                ),
                Err(error) => error.to_string(),
            };
            out += &format!("{} → {line}\n", text.replace(&hex, "f…"));
        }
        expect![[r#"
            nginx → docker.io/library/nginx:latest at registry-1.docker.io, imported as nginx
            me/app:1 → docker.io/me/app:1 at registry-1.docker.io, imported as me/app
            localhost:5000/app → localhost:5000/app:latest at localhost:5000 (loopback), imported as localhost:5000/app
            127.0.0.1:5000/a/b:t → 127.0.0.1:5000/a/b:t at 127.0.0.1:5000 (loopback), imported as 127.0.0.1:5000/a/b
            [::1]:5000/app:t → [::1]:5000/app:t at [::1]:5000 (loopback), imported as [::1]:5000/app
            [2001:db8::1]/app → [2001:db8::1]/app:latest at [2001:db8::1], imported as [2001:db8::1]/app
            ghcr.io/o/r:v1 → ghcr.io/o/r:v1 at ghcr.io, imported as ghcr.io/o/r
            nginx:1@sha256:f… → docker.io/library/nginx@sha256:f… at registry-1.docker.io, imported as nginx
            sha256:f… → digest ffffffffffff
            index.docker.io/library/nginx → docker.io/library/nginx:latest at registry-1.docker.io, imported as nginx
            UPPER → image reference "UPPER" is not valid: invalid reference format
            a/../b → image reference "a/../b" is not valid: invalid reference format
             → image reference "" is not valid: repository name must have at least one component
            nginx@sha256:abc → image reference "nginx@sha256:abc" is not valid: invalid reference format
            http://x/y → image reference "http://x/y" is not valid: invalid reference format
        "#]].assert_eq(&out);
    }
}
