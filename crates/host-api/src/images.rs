//! Images of a host.

use crate::{CallContext, HostError};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tokio::io::AsyncRead;
use wire::machines::{Image, ImageProgress, ImageRef};

/// Bytes of a tar.
pub type ImageUpload = Box<dyn AsyncRead + Send + Unpin>;

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
        name: Option<String>,
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
