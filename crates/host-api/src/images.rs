//! Images of a host.

use crate::{CallContext, HostError};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;
use wire::machines::{Image, ImageProgress, ImageRef};

/// Bytes of a tar.
pub type ImageUpload = Box<dyn AsyncRead + Send + Unpin>;

/// What an imported image is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportName {
    /// A name for the image, instead of the archive's names.
    pub name: Option<String>,
    /// The archive's file name where it comes from, without directories. It names
    /// an image that has no name otherwise, and the archive in errors.
    #[serde(default)]
    pub file_name: Option<String>,
}

/// Images of a host.
#[async_trait]
pub trait Images: Send + Sync {
    /// Resolves an image reference on this host; a registry is asked if
    /// the host has none of that name.
    async fn resolve_image(
        &self,
        context: CallContext,
        reference: String,
    ) -> Result<ImageRef, HostError>;

    /// Imports an image from a tar. The stream ends with `Done` or `Failed`;
    /// dropping it ends the import.
    async fn import_image(
        &self,
        context: CallContext,
        name: ImportName,
        tar: ImageUpload,
    ) -> Result<BoxStream<'static, ImageProgress>, HostError>;

    /// Images on this host.
    async fn images(&self, context: CallContext) -> Result<Vec<Image>, HostError>;

    /// Removes a name or a digest; false if there is none. Data that a machine
    /// uses stays, and the machine keeps using it.
    async fn remove_image(
        &self,
        context: CallContext,
        reference: String,
    ) -> Result<bool, HostError>;
}
