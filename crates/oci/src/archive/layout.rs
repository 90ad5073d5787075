//! The OCI image layout
//! (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>):
//! `index.json`, and blobs by digest.

use crate::archive::docker_save;
use crate::archive::found::{Contents, FoundImage, check_images, check_layers, check_names};
use crate::archive::source::Source;
use crate::config::settings::OciConfig;
use crate::content::digest::Digest;
use crate::content::unpack::verify;
use crate::error::{Error, Result};
use crate::manifest::document::{Descriptor, ImageManifest, Manifest, shorten};
use crate::manifest::image_config::Config;
use crate::manifest::platform;

/// The depth of indexes within indexes.
const MAX_NESTING: usize = 4;
/// Artifacts that are named.
const MAX_ARTIFACTS: usize = 32;
/// Manifests that are read in search of images.
const MAX_MANIFESTS: usize = 256;

/// The images of an archive of either format. `repository` replaces the
/// repository in names that are a tag only.
pub(crate) fn contents(source: &Source, repository: &str, config: &OciConfig) -> Result<Contents> {
    let mut contents = if source.get("index.json")?.is_some() {
        Layout { source, repository, config, read: 0, artifacts: Vec::new() }.contents()?
    } else if source.get(docker_save::LIST)?.is_some() {
        let images = docker_save::images(source, &config.limits)?;
        Contents { images, artifacts: Vec::new() }
    } else {
        return Err(Error::refused(
            "it is neither an OCI layout (no index.json) nor from docker save (no manifest.json)",
        ));
    };
    if contents.images.is_empty() {
        return Err(Error::refused(match contents.artifacts.is_empty() {
            true => "it holds no image for linux/amd64".to_owned(),
            false => {
                let artifacts = contents.artifacts.join(", ");
                format!("it holds no image for linux/amd64, only artifacts: {artifacts}")
            }
        }));
    }
    contents.images.iter_mut().try_for_each(check_names)?;
    Ok(contents)
}

struct Layout<'a> {
    source: &'a Source,
    repository: &'a str,
    config: &'a OciConfig,
    /// Manifests read so far.
    read: usize,
    /// Media types of the artifacts left out so far.
    artifacts: Vec<String>,
}

/// The manifest of an image, with its digest and its bytes.
type FoundManifest = (Digest, Vec<u8>, ImageManifest);

impl Layout<'_> {
    fn contents(mut self) -> Result<Contents> {
        let index = self.source.read("index.json", self.config.limits.manifest_bytes)?;
        let Manifest::Index(listed) = Manifest::parse(&index)? else {
            return Err(Error::refused("its index.json is no index"));
        };
        let fitting = platform::best_per_name(&listed, self.config.guest_cpu);
        if fitting.is_empty() && !listed.is_empty() {
            // Its error lists the platforms of the index.
            platform::candidates(&listed, self.config.guest_cpu)?;
        }
        let mut images: Vec<FoundImage> = Vec::new();
        for descriptor in fitting {
            let Some((digest, bytes, manifest)) = self.manifest(descriptor, 0)? else { continue };
            let names = descriptor.name().map(|name| self.full_name(name));
            if let Some(known) = images.iter_mut().find(|known| known.digest == digest) {
                known.names.extend(names);
                continue;
            }
            check_images(images.len() + 1)?;
            images.push(self.image(digest, bytes, &manifest, names.into_iter().collect())?);
        }
        if let [only] = &mut images[..]
            && only.names.is_empty()
        {
            only.names = docker_save::tags(self.source, &self.config.limits);
        }
        Ok(Contents { images, artifacts: self.artifacts })
    }

    /// The manifest of the best image behind a descriptor; `None` if there are
    /// artifacts only.
    fn manifest(
        &mut self,
        descriptor: &Descriptor,
        nesting: usize,
    ) -> Result<Option<FoundManifest>> {
        if !descriptor.artifact_type.is_empty() {
            self.leave_out(shorten(&descriptor.artifact_type));
            return Ok(None);
        }
        self.read += 1;
        if self.read > MAX_MANIFESTS {
            let problem = format!("it lists more than {MAX_MANIFESTS} manifests");
            return Err(Error::refused(problem));
        }
        let digest = descriptor.digest()?;
        let bytes = self.document(&digest, self.config.limits.manifest_bytes)?;
        match Manifest::parse(&bytes)? {
            Manifest::Image(image) => Ok(Some((digest, bytes, image))),
            Manifest::Artifact(media_type) => {
                self.leave_out(media_type);
                Ok(None)
            }
            Manifest::Index(_) if nesting == MAX_NESTING => {
                Err(Error::refused("its indexes are nested too deeply"))
            }
            Manifest::Index(inner) => {
                let mut found = None;
                for candidate in platform::candidates(&inner, self.config.guest_cpu)? {
                    // After the image only what may be an artifact is read, to name it.
                    if found.is_some() && candidate.platform.is_some() {
                        continue;
                    }
                    match self.manifest(candidate, nesting + 1) {
                        Ok(next) => found = found.or(next),
                        Err(error) if found.is_none() => return Err(error),
                        Err(_) => {}
                    }
                }
                Ok(found)
            }
        }
    }

    /// Notes an artifact, so that it can be named; beyond a limit only that there
    /// are more.
    fn leave_out(&mut self, media_type: String) {
        match self.artifacts.len() {
            ..MAX_ARTIFACTS => self.artifacts.push(media_type),
            MAX_ARTIFACTS => self.artifacts.push("more artifacts".into()),
            _ => {}
        }
    }

    /// A layout of one image often names the tag only.
    fn full_name(&self, name: &str) -> String {
        match name.contains([':', '/', '@']) {
            true => name.to_owned(),
            false => format!("{}:{name}", self.repository),
        }
    }

    fn image(
        &self,
        digest: Digest,
        manifest: Vec<u8>,
        parsed: &ImageManifest,
        names: Vec<String>,
    ) -> Result<FoundImage> {
        let limits = &self.config.limits;
        check_layers(parsed.layers.len(), limits)?;
        let config_bytes = self.document(&parsed.config.digest()?, limits.config_bytes)?;
        let config = Config::parse(&config_bytes)?;
        let mut layers = Vec::new();
        for expected in config.expected(parsed)? {
            let name = expected.digest.as_ref().map(blob_name).unwrap_or_default();
            let blob = self.source.get(&name)?;
            let blob = blob.ok_or_else(|| Error::refused(format!("it has no file {name}")))?;
            layers.push((blob, expected));
        }
        Ok(FoundImage { digest, manifest, config_bytes, config, layers, names })
    }

    /// A document by its digest, which is verified.
    fn document(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let name = blob_name(digest);
        let bytes = self.source.read(&name, limit)?;
        verify(&format!("file {name}"), digest, &Digest::of(&bytes))?;
        Ok(bytes)
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
