//! Images out of archives: an OCI layout, or what `docker save` writes.

use crate::blob::Blob;
use crate::config::OciConfig;
use crate::digest::Digest;
use crate::fault::{Fault, Result};
use crate::manifest::{self, Config, Descriptor, ImageManifest, Manifest, Saved};
use crate::reference::ImageName;
use crate::source::Source;
use crate::spool::{Expected, verify};
use camino::Utf8Path;
use worker::ports::ImageError;

/// Images of one archive at most.
const MAX_IMAGES: usize = 64;
/// Indexes within indexes.
const MAX_NESTING: usize = 4;

/// An image found in an archive, its documents verified, its layers not yet.
pub(crate) struct Found {
    pub(crate) digest: Digest,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config_bytes: Vec<u8>,
    pub(crate) config: Config,
    pub(crate) layers: Vec<(Blob, Expected)>,
    /// Names as the archive has them.
    pub(crate) names: Vec<String>,
}

/// The images of an archive. `stem` stands for the repository where the archive
/// gives only a tag.
pub(crate) fn find(source: &Source, stem: &str, config: &OciConfig) -> Result<Vec<Found>> {
    let reader = Reader { source, stem, config };
    let found = if source.get("index.json")?.is_some() {
        reader.layout()?
    } else if source.get("manifest.json")?.is_some() {
        reader.saved()?
    } else {
        return Err(Fault::refused(
            "it is neither an OCI layout (no index.json) nor from docker save (no manifest.json)",
        ));
    };
    if found.is_empty() {
        return Err(Fault::refused("it holds no image for linux/amd64"));
    }
    Ok(found)
}

/// What stands for the repository if an archive gives only a tag: its file name.
pub(crate) fn stem(path: &Utf8Path) -> String {
    let name = path.canonicalize_utf8().unwrap_or_else(|_| path.to_owned());
    let mut stem = name.file_name().unwrap_or("image").to_ascii_lowercase();
    for suffix in [".gz", ".tgz", ".zst", ".tar", ".oci"] {
        if let Some(rest) = stem.strip_suffix(suffix).filter(|rest| !rest.is_empty()) {
            stem = rest.to_owned();
        }
    }
    stem
}

/// The names to register: the given one, else those of the archive that parse.
pub(crate) fn names(given: Option<&str>, found: &Found) -> Result<Vec<ImageName>, ImageError> {
    if let Some(given) = given {
        return Ok(vec![ImageName::parse(given)?]);
    }
    let parse = |name: &String| match ImageName::parse(name) {
        Ok(name) => Some(name),
        Err(error) => {
            tracing::warn!(%error, "name in an image archive ignored");
            None
        }
    };
    Ok(found.names.iter().filter_map(parse).collect())
}

struct Reader<'a> {
    source: &'a Source,
    stem: &'a str,
    config: &'a OciConfig,
}

impl Reader<'_> {
    fn layout(&self) -> Result<Vec<Found>> {
        let index = self.source.read("index.json", self.config.limits.manifest_bytes)?;
        let listed = match Manifest::parse(&index)? {
            Manifest::Index(listed) => listed,
            Manifest::Image(_) => return Err(Fault::refused("its index.json is no index")),
        };
        let mut found: Vec<Found> = Vec::new();
        for (digest, names) in self.listed(&listed)? {
            if let Some(known) = found.iter_mut().find(|known| known.digest == digest) {
                known.names.extend(names);
                continue;
            }
            if found.len() == MAX_IMAGES {
                let problem = format!("it holds more than {MAX_IMAGES} images");
                return Err(Fault::refused(problem));
            }
            found.push(self.image(digest, names)?);
        }
        if let [only] = &mut found[..]
            && only.names.is_empty()
        {
            only.names = self.saved_tags();
        }
        Ok(found)
    }

    /// Digests of image manifests for our platform, and the names they have.
    fn listed(&self, listed: &[Descriptor]) -> Result<Vec<(Digest, Vec<String>)>> {
        let mut out = Vec::new();
        let ours: Vec<_> = listed.iter().filter(|descriptor| descriptor.fits()).collect();
        if ours.is_empty() && !listed.is_empty() {
            // Says what there is instead.
            manifest::choose(listed)?;
        }
        for descriptor in ours {
            let names: Vec<_> = descriptor.name().map(|name| self.full(name)).into_iter().collect();
            let mut descriptor = descriptor.clone();
            for nesting in 0.. {
                let digest = Digest::within(&descriptor.digest)?;
                match Manifest::parse(&self.document(&digest, self.config.limits.manifest_bytes)?)?
                {
                    Manifest::Image(_) => {
                        out.push((digest, names));
                        break;
                    }
                    Manifest::Index(_) if nesting == MAX_NESTING => {
                        return Err(Fault::refused("its indexes are nested too deeply"));
                    }
                    Manifest::Index(inner) => descriptor = manifest::choose(&inner)?.clone(),
                }
            }
        }
        Ok(out)
    }

    /// A layout made from one image often has its tag only.
    fn full(&self, name: &str) -> String {
        match name.contains([':', '/', '@']) {
            true => name.to_owned(),
            false => format!("{}:{name}", self.stem),
        }
    }

    fn image(&self, digest: Digest, names: Vec<String>) -> Result<Found> {
        let limits = &self.config.limits;
        let manifest = self.document(&digest, limits.manifest_bytes)?;
        let Manifest::Image(image) = Manifest::parse(&manifest)? else {
            return Err(Fault::refused("its manifest is an index"));
        };
        check_counts(&image, self.config)?;
        let config_digest = Digest::within(&image.config.digest)?;
        let config_bytes = self.document(&config_digest, limits.config_bytes)?;
        let config = Config::parse(&config_bytes)?;
        let mut layers = Vec::new();
        for expected in image.expected(&config)? {
            let name = expected.digest.as_ref().map(blob_name).unwrap_or_default();
            let blob = self.source.get(&name)?;
            let blob = blob.ok_or_else(|| Fault::refused(format!("it has no file {name}")))?;
            layers.push((blob, expected));
        }
        Ok(Found { digest, manifest, config_bytes, config, layers, names })
    }

    fn document(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let name = blob_name(digest);
        let bytes = self.source.read(&name, limit)?;
        verify(&format!("file {name}"), digest, &Digest::of(&bytes))?;
        Ok(bytes)
    }

    fn saved_list(&self) -> Result<Vec<Saved>> {
        let bytes = self.source.read("manifest.json", self.config.limits.manifest_bytes)?;
        serde_json::from_slice(&bytes)
            .map_err(|err| Fault::refused(format!("its manifest.json does not parse: {err}")))
    }

    /// Docker writes its own list beside the layout.
    fn saved_tags(&self) -> Vec<String> {
        let saved = self.saved_list().unwrap_or_default();
        saved.into_iter().flat_map(|saved| saved.repo_tags).collect()
    }

    fn saved(&self) -> Result<Vec<Found>> {
        let list = self.saved_list()?;
        if list.len() > MAX_IMAGES {
            return Err(Fault::refused(format!("it holds more than {MAX_IMAGES} images")));
        }
        list.into_iter().map(|saved| self.saved_image(saved)).collect()
    }

    fn saved_image(&self, saved: Saved) -> Result<Found> {
        let config_bytes = self.source.read(&saved.config, self.config.limits.config_bytes)?;
        let config_digest = Digest::of(&config_bytes);
        // The file is named by its digest; what has another name can't be checked.
        let stem = saved.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
        if let Some(promised) = Digest::parse(&format!("sha256:{stem}")) {
            verify("config", &promised, &config_digest)?;
        }
        let config = Config::parse(&config_bytes)?;
        let diff_ids = config.diff_ids()?;
        check_layers(diff_ids.len(), self.config)?;
        if diff_ids.len() != saved.layers.len() {
            return Err(Fault::refused(format!(
                "its manifest.json has {} layers, its config {}",
                saved.layers.len(),
                diff_ids.len()
            )));
        }
        let mut layers = Vec::new();
        for (name, diff_id) in saved.layers.iter().zip(diff_ids) {
            let blob = self.source.get(name)?;
            let blob = blob.ok_or_else(|| Fault::refused(format!("it has no file {name:?}")))?;
            layers.push((blob, Expected { digest: None, diff_id }));
        }
        let expected: Vec<_> = layers.iter().map(|(_, expected)| expected.clone()).collect();
        let manifest = manifest::synthetic(&config_digest, config_bytes.len() as u64, &expected);
        let digest = Digest::of(&manifest);
        Ok(Found { digest, manifest, config_bytes, config, layers, names: saved.repo_tags })
    }
}

/// Refuses what is beyond the limits before anything is fetched.
pub(crate) fn check_counts(image: &ImageManifest, config: &OciConfig) -> Result<()> {
    check_layers(image.layers.len(), config)?;
    let bytes = image.layers.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.size));
    let limit = config.limits.unpacked_bytes;
    if bytes > limit {
        return Err(Fault::refused(format!(
            "its layers of {bytes} bytes exceed the limit of {limit} bytes"
        )));
    }
    Ok(())
}

fn check_layers(layers: usize, config: &OciConfig) -> Result<()> {
    if layers > config.limits.layers {
        let limit = config.limits.layers;
        return Err(Fault::refused(format!("its {layers} layers exceed the limit of {limit}")));
    }
    Ok(())
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
