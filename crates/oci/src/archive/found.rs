//! An image as an archive holds it, and the archive's own name.

use crate::config::limits::Limits;
use crate::content::blob::Blob;
use crate::content::digest::Digest;
use crate::content::unpack::Expected;
use crate::error::{Error, Result};
use crate::manifest::image_config::Config;
use std::collections::HashSet;

/// The most images in one archive.
pub(crate) const MAX_IMAGES: usize = 64;
/// The most names that an archive may give to one image: each is a file of the store.
const MAX_NAMES: usize = 64;

/// The images of an archive, and what it holds beside them.
pub(crate) struct Contents {
    pub(crate) images: Vec<FoundImage>,
    /// Media types of manifests that were left out because they are no images.
    pub(crate) artifacts: Vec<String>,
}

/// An image in an archive. Its documents are verified, its layers are not.
pub(crate) struct FoundImage {
    pub(crate) digest: Digest,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config_bytes: Vec<u8>,
    pub(crate) config: Config,
    pub(crate) layers: Vec<(Blob, Expected)>,
    /// The names that the archive gives to it.
    pub(crate) names: Vec<String>,
}

/// Refuses an archive with too many images.
pub(crate) fn check_images(images: usize) -> Result<()> {
    if images > MAX_IMAGES {
        return Err(Error::refused(format!("it holds more than {MAX_IMAGES} images")));
    }
    Ok(())
}

/// Removes names that an image has twice, and refuses an image with too many.
pub(crate) fn check_names(image: &mut FoundImage) -> Result<()> {
    let mut seen = HashSet::new();
    image.names.retain(|name| seen.insert(name.clone()));
    let names = image.names.len();
    if names > MAX_NAMES {
        return Err(Error::refused(format!(
            "it gives {names} names to one image, more than {MAX_NAMES}"
        )));
    }
    Ok(())
}

/// Refuses an image with too many layers.
pub(crate) fn check_layers(layers: usize, limits: &Limits) -> Result<()> {
    if layers > limits.layers {
        let limit = limits.layers;
        return Err(Error::refused(format!("its {layers} layers exceed the limit of {limit}")));
    }
    Ok(())
}

/// A repository name made of an archive's file name: without its extensions,
/// and with the characters only that a name may have. `None` if nothing is left.
pub(crate) fn repository_name(file_name: &str) -> Option<String> {
    let mut stem = file_name.to_ascii_lowercase();
    for suffix in [".gz", ".tgz", ".zst", ".tar", ".oci"] {
        if let Some(rest) = stem.strip_suffix(suffix).filter(|rest| !rest.is_empty()) {
            stem = rest.to_owned();
        }
    }
    let parts = stem.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    let name = parts.collect::<Vec<_>>().join("-");
    (!name.is_empty() && name.len() <= 128).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archives_file_name_becomes_a_repository_name() {
        for (file, name) in [
            ("web.tar", Some("web")),
            ("Web App_v2.oci.tar.gz", Some("web-app-v2")),
            (".tar", Some("tar")),
            ("...", None),
            ("é", None),
            ("", None),
        ] {
            assert_eq!(repository_name(file).as_deref(), name, "{file}");
        }
    }
}
