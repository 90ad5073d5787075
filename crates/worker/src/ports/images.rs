//! The port to container images.

use super::PortError;
use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Container images, as far as the worker needs them.
///
/// Every implementation, the fake too, passes `testkit::images_contract`:
/// - `resolve` of a name that was imported needs no network;
/// - `ensure` twice at once does the work once; a crash in the middle leaves
///   nothing that a later `ensure` takes for whole;
/// - `collect` removes no image whose digest is in `keep`;
/// - the `document` of an image is there as long as the image;
/// - `remove` of a digest in `keep` changes nothing and fails with
///   [`ImageError::InUse`]; `remove` of a name leaves the image to `keep`.
#[async_trait]
pub trait Images: Send + Sync + 'static {
    /// Resolves a reference: an imported or pulled image of that name,
    /// else what the registry has now. Does not fetch layers.
    async fn resolve(&self, reference: &str) -> Result<Resolved, ImageError>;

    /// Makes the root image of a digest present and returns it; pulls from
    /// `reference` if needed. Cheap when it is there already.
    async fn ensure(
        &self,
        reference: &str,
        digest: &str,
        progress: Progress,
    ) -> Result<RootImage, ImageError>;

    /// Imports the images of an archive. Returns the first image, its new names
    /// before older ones. No error contains the archive's path.
    async fn import(
        &self,
        archive: ImageArchive<'_>,
        progress: Progress,
    ) -> Result<ImageSummary, ImageError>;

    /// All images, newest first.
    async fn list(&self) -> Result<Vec<ImageSummary>, ImageError>;

    /// Removes names or a digest; the data goes once no name and no machine
    /// (`keep`) needs it. Returns whether there was such an image.
    async fn remove(&self, reference: &str, keep: &BTreeSet<String>) -> Result<bool, ImageError>;

    /// Removes data that neither a name nor `keep` (digests) needs, and remains
    /// of interrupted work. The name of a pulled image may expire some time after
    /// the image's last use. Returns the bytes freed.
    async fn collect(&self, keep: &BTreeSet<String>) -> Result<u64, ImageError>;
}

/// An archive to import: an OCI layout directory, or a tar (plain, gzip or
/// zstd) of an OCI layout or of `docker save`.
#[derive(Clone, Copy, Debug)]
pub struct ImageArchive<'a> {
    /// Where the archive is on this host.
    pub path: &'a Utf8Path,
    /// A name for the image, instead of the archive's names.
    pub name: Option<&'a str>,
    /// The archive's file name where it comes from, without directories. It
    /// names an image that has no name otherwise, and the archive in errors.
    pub file_name: Option<&'a str>,
}

/// Called with the bytes done: name of the step, bytes so far, bytes in all (0 if unknown).
pub type Progress = Arc<dyn Fn(&str, u64, u64) + Send + Sync>;

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The reference is no OCI reference.
    #[error("image reference {reference:?} is not valid: {problem}")]
    BadReference {
        /// As given.
        reference: String,
        /// The problem.
        problem: String,
    },
    /// Neither here nor in its registry, or access is denied.
    #[error("image {reference:?} was not found{detail}")]
    NotFound {
        /// As given.
        reference: String,
        /// The registry's message, beginning with ": ", or empty.
        detail: String,
    },
    /// The image cannot be removed.
    #[error("image {reference:?} is in use: {problem}")]
    InUse {
        /// As given.
        reference: String,
        /// Its users.
        problem: String,
    },
    /// The content is damaged or hostile: a digest does not match, an entry
    /// leaves the root, a limit is exceeded, a file does not parse.
    #[error("image {what} is refused: {problem}")]
    Refused {
        /// Reference, path or digest.
        what: String,
        /// The problem.
        problem: String,
    },
    /// Everything else: network, disk.
    #[error(transparent)]
    Failed(#[from] PortError),
}

/// The image that a reference resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Host of the registry, or `local`.
    pub registry: String,
    /// Path within the registry.
    pub repository: String,
    /// Tag, or empty.
    pub tag: String,
    /// `sha256:…` of the manifest for this platform.
    pub digest: String,
    /// LABEL of the image's config.
    pub labels: BTreeMap<String, String>,
}

/// A root image on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootImage {
    /// The file.
    pub path: Utf8PathBuf,
    /// `squashfs` or `erofs`.
    pub fstype: String,
    /// The process that the image is configured to run.
    pub config: ImageConfig,
    /// The file with the image's config as it is in the registry, JSON of the OCI image
    /// specification.
    pub document: Utf8PathBuf,
}

/// The part of an image's config that a machine uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub cmd: Vec<String>,
    /// ENV, `NAME=value`.
    pub env: Vec<String>,
    /// USER.
    pub user: String,
    /// WORKDIR.
    pub workdir: String,
    /// STOPSIGNAL, or empty.
    pub stop_signal: String,
    /// LABEL.
    pub labels: BTreeMap<String, String>,
}

/// An image in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// Names that lead to it.
    pub references: Vec<String>,
    /// `sha256:…` of the manifest.
    pub digest: String,
    /// Bytes of the root image.
    pub size: u64,
    /// Milliseconds since the epoch, of its arrival here.
    pub created_ms: u64,
}
