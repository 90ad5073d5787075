//! The JSON documents of an image: index, manifest, config.
//!
//! Own types instead of a library's strict ones: absent and null fields are
//! common in the wild, and only a few fields matter here.

use crate::digest::Digest;
use crate::fault::{Fault, Result};
use crate::spool::Expected;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use worker::ports::ImageConfig;

/// A pointer to a blob.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Descriptor {
    #[serde(deserialize_with = "nullable")]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What an image runs on.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
}

/// An image index or an image manifest, told apart by what it holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Document {
    schema_version: u32,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// Either kind of manifest.
#[derive(Clone, Debug)]
pub(crate) enum Manifest {
    /// Manifests to choose from.
    Index(Vec<Descriptor>),
    /// One image.
    Image(ImageManifest),
}

/// One image: its config and layers, lowest first.
#[derive(Clone, Debug)]
pub(crate) struct ImageManifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// An image's config, as far as it matters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    #[serde(deserialize_with = "nullable")]
    architecture: String,
    #[serde(deserialize_with = "nullable")]
    os: String,
    #[serde(deserialize_with = "nullable")]
    config: Run,
    rootfs: RootFs,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RootFs {
    #[serde(deserialize_with = "nullable")]
    diff_ids: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Run {
    #[serde(deserialize_with = "nullable")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    env: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    user: String,
    #[serde(deserialize_with = "nullable")]
    working_dir: String,
    #[serde(deserialize_with = "nullable")]
    stop_signal: String,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
}

fn nullable<'de, D, T>(from: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Manifest {
    /// Parses what a digest of a manifest leads to.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let found: Document = serde_json::from_slice(bytes)
            .map_err(|err| Fault::refused(format!("its manifest does not parse: {err}")))?;
        match found {
            Document { schema_version: 1, .. } => {
                Err(Fault::refused("its manifest is of schema version 1, which is not supported"))
            }
            Document { manifests: Some(manifests), .. } => Ok(Self::Index(manifests)),
            Document { config: Some(config), layers: Some(layers), .. } => {
                Ok(Self::Image(ImageManifest { config, layers }))
            }
            _ => Err(Fault::refused("its manifest is neither an index nor an image")),
        }
    }
}

impl Descriptor {
    /// Whether an index offers this for the machines we run. Attestations are
    /// listed under the platform `unknown`.
    pub(crate) fn fits(&self) -> bool {
        let platform = self.platform.as_ref();
        platform.is_none_or(|platform| platform.os == "linux" && platform.architecture == "amd64")
    }

    /// The name that a layout gives to this, if any.
    pub(crate) fn name(&self) -> Option<&str> {
        // The first is the full name that containerd and Docker write beside a bare tag.
        ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
            .iter()
            .find_map(|key| self.annotations.get(*key))
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }
}

/// Chooses from an index: the platform that we run.
pub(crate) fn choose(manifests: &[Descriptor]) -> Result<&Descriptor> {
    manifests
        .iter()
        .find(|found| found.platform.is_some() && found.fits())
        .or_else(|| manifests.iter().find(|found| found.fits()))
        .ok_or_else(|| {
            let offered: Vec<_> = manifests
                .iter()
                .filter_map(|found| found.platform.as_ref())
                .map(|platform| format!("{}/{}", platform.os, platform.architecture))
                .collect();
            Fault::refused(format!("it is not for linux/amd64, only for {}", offered.join(", ")))
        })
}

impl Config {
    /// Parses a config and checks that it is for us.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let found: Self = serde_json::from_slice(bytes)
            .map_err(|err| Fault::refused(format!("its config does not parse: {err}")))?;
        let (os, arch) = (&found.os, &found.architecture);
        if !matches!(&**os, "" | "linux") || !matches!(&**arch, "" | "amd64") {
            return Err(Fault::refused(format!("it is for {os}/{arch}, not for linux/amd64")));
        }
        Ok(found)
    }

    /// Digests of the layers' tars, lowest first.
    pub(crate) fn diff_ids(&self) -> Result<Vec<Digest>> {
        self.rootfs.diff_ids.iter().map(|text| Digest::within(text)).collect()
    }

    /// The part that a machine uses.
    pub(crate) fn image_config(&self) -> ImageConfig {
        let run = self.config.clone();
        ImageConfig {
            entrypoint: run.entrypoint,
            cmd: run.cmd,
            env: run.env,
            user: run.user,
            workdir: run.working_dir,
            stop_signal: run.stop_signal,
            labels: run.labels,
        }
    }
}

impl ImageManifest {
    /// What each layer's digests must be.
    pub(crate) fn expected(&self, config: &Config) -> Result<Vec<Expected>> {
        let diff_ids = config.diff_ids()?;
        if diff_ids.len() != self.layers.len() {
            return Err(Fault::refused(format!(
                "its manifest has {} layers, its config {}",
                self.layers.len(),
                diff_ids.len()
            )));
        }
        let pairs = self.layers.iter().zip(diff_ids);
        pairs
            .map(|(layer, diff_id)| {
                // Encrypted layers, charts, modules: no root filesystem.
                if !layer.media_type.is_empty()
                    && (!layer.media_type.contains("tar") || layer.media_type.contains("encrypted"))
                {
                    let kind = &layer.media_type;
                    return Err(Fault::refused(format!("its layer of type {kind:?} is no tar")));
                }
                Ok(Expected { digest: Some(Digest::within(&layer.digest)?), diff_id })
            })
            .collect()
    }
}

/// One image of a `docker save` archive.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Saved {
    pub(crate) config: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) layers: Vec<String>,
}

/// A manifest for an image that came without: it is the same for the same config.
pub(crate) fn synthetic(config: &Digest, config_size: u64, layers: &[Expected]) -> Vec<u8> {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": layer.diff_id.to_string(),
                "size": 0,
            })
        })
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config.to_string(),
            "size": config_size,
        },
        "layers": layers,
    });
    manifest.to_string().into_bytes()
}
