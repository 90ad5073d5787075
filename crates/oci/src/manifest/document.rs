//! Indexes and manifests.
//!
//! The types are more tolerant than those of a library: fields that are absent
//! or null are common, and few fields are needed here.

use crate::content::digest::Digest;
use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// The config media types of images; anything else is an artifact.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// A reference to a blob.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Descriptor {
    #[serde(deserialize_with = "nullable")]
    pub(crate) media_type: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub(crate) artifact_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The platform of an image.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct Platform {
    #[serde(deserialize_with = "nullable")]
    pub(crate) architecture: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) os: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub(crate) variant: String,
}

/// An index or a manifest, distinguished by its fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    schema_version: u32,
    #[serde(deserialize_with = "nullable")]
    artifact_type: String,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// A parsed index or manifest.
#[derive(Clone, Debug)]
pub(crate) enum Manifest {
    /// An index: the manifests to choose from.
    Index(Vec<Descriptor>),
    /// The manifest of an image.
    Image(ImageManifest),
    /// The manifest of something else, such as a bill of materials or a
    /// signature, with its media type.
    Artifact(String),
}

/// The manifest of an image: its config and its layers, lowest first.
#[derive(Clone, Debug)]
pub(crate) struct ImageManifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// Deserializes null like an absent field.
pub(crate) fn nullable<'de, D, T>(from: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Manifest {
    /// Parses an index or a manifest.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let found: Document = serde_json::from_slice(bytes)
            .map_err(|err| Error::refused(format!("its manifest does not parse: {err}")))?;
        match found {
            Document { schema_version: 1, .. } => {
                Err(Error::refused("its manifest is of schema version 1, which is not supported"))
            }
            Document { manifests: Some(manifests), .. } => Ok(Self::Index(manifests)),
            Document { artifact_type, .. } if !artifact_type.is_empty() => {
                Ok(Self::Artifact(shorten(&artifact_type)))
            }
            Document { config: Some(config), layers: Some(layers), .. } => {
                let image = ImageManifest { config, layers };
                Ok(image.artifact_type().map_or(Self::Image(image), Self::Artifact))
            }
            _ => Err(Error::refused("its manifest is neither an index nor an image")),
        }
    }
}

impl ImageManifest {
    /// The media type by which this is an artifact and no image: that of its
    /// config, or of its layers if none is a tar (signatures of cosign have the
    /// config of an image).
    fn artifact_type(&self) -> Option<String> {
        let config = self.config.media_type.as_str();
        if !config.is_empty() && !IMAGE_CONFIGS.contains(&config) {
            return Some(shorten(config));
        }
        let first = self.layers.first()?;
        let tar =
            |layer: &Descriptor| layer.media_type.is_empty() || layer.media_type.contains("tar");
        (!self.layers.iter().any(tar)).then(|| shorten(&first.media_type))
    }
}

impl Descriptor {
    /// The name that a layout gives to this manifest, if any.
    pub(crate) fn name(&self) -> Option<&str> {
        // containerd and Docker write the full name into the first, and a tag
        // alone into the second.
        ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
            .iter()
            .find_map(|key| self.annotations.get(*key))
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    /// The descriptor's digest.
    pub(crate) fn digest(&self) -> Result<Digest> {
        Digest::within(&self.digest)
    }
}

/// A media type for messages: shortened, without control characters.
pub(crate) fn shorten(media_type: &str) -> String {
    media_type.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// One image in the `manifest.json` of `docker save`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SavedImage {
    pub(crate) config: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) layers: Vec<String>,
}

/// The manifest for an image that comes without one: the same for the same
/// config and layers.
pub(crate) fn synthesize(config: &Digest, config_size: u64, diff_ids: &[Digest]) -> Vec<u8> {
    let layers: Vec<_> = diff_ids
        .iter()
        .map(|diff_id| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": diff_id.to_string(),
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
