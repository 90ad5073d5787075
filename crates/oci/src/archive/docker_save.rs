//! The format of `docker save`: `manifest.json`, a config and layers per image.

use crate::archive::found::{FoundImage, check_images, check_layers};
use crate::archive::source::Source;
use crate::config::limits::Limits;
use crate::content::digest::Digest;
use crate::content::unpack::{Expected, verify};
use crate::error::{Error, Result};
use crate::manifest::document::{SavedImage, synthesize};
use crate::manifest::image_config::Config;

/// The file that lists the images.
pub(crate) const LIST: &str = "manifest.json";

/// The images of an archive.
pub(crate) fn images(source: &Source, limits: &Limits) -> Result<Vec<FoundImage>> {
    let list = list(source, limits)?;
    check_images(list.len())?;
    list.into_iter().map(|saved| image(source, saved, limits)).collect()
}

/// The tags in the list; none without a list. Docker writes one beside a layout.
pub(crate) fn tags(source: &Source, limits: &Limits) -> Vec<String> {
    let list = list(source, limits).unwrap_or_default();
    list.into_iter().flat_map(|saved| saved.repo_tags).collect()
}

fn list(source: &Source, limits: &Limits) -> Result<Vec<SavedImage>> {
    let bytes = source.read(LIST, limits.manifest_bytes)?;
    serde_json::from_slice(&bytes)
        .map_err(|err| Error::refused(format!("its manifest.json does not parse: {err}")))
}

fn image(source: &Source, saved: SavedImage, limits: &Limits) -> Result<FoundImage> {
    let config_bytes = source.read(&saved.config, limits.config_bytes)?;
    let config_digest = Digest::of(&config_bytes);
    // Docker names the file by its digest; with another name there is nothing to verify.
    let stem = saved.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    if let Some(promised) = Digest::parse(&format!("sha256:{stem}")) {
        verify("config", &promised, &config_digest)?;
    }
    let config = Config::parse(&config_bytes)?;
    let diff_ids = config.diff_ids()?;
    check_layers(diff_ids.len(), limits)?;
    if diff_ids.len() != saved.layers.len() {
        return Err(Error::refused(format!(
            "its manifest.json has {} layers, its config {}",
            saved.layers.len(),
            diff_ids.len()
        )));
    }
    let manifest = synthesize(&config_digest, config_bytes.len() as u64, &diff_ids);
    let mut layers = Vec::new();
    for (name, diff_id) in saved.layers.iter().zip(diff_ids) {
        let blob = source.get(name)?;
        let blob = blob.ok_or_else(|| Error::refused(format!("it has no file {name:?}")))?;
        layers.push((blob, Expected { digest: None, diff_id }));
    }
    let digest = Digest::of(&manifest);
    Ok(FoundImage { digest, manifest, config_bytes, config, layers, names: saved.repo_tags })
}
