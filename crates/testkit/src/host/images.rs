//! `Images` of the host in memory.

use super::FakeHost;
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use host_api::{CallContext, HostError, ImageUpload, Images, ImportName};
use std::collections::BTreeMap;
use tokio::io::AsyncReadExt;
use wire::machines::{Image, ImageProgress, ImageRef};

/// Names that the imaginary registry has.
const PUBLISHED: [&str; 2] = ["nginx", "app"];

#[async_trait]
impl Images for FakeHost {
    async fn resolve_image(
        &self,
        context: CallContext,
        reference: String,
    ) -> Result<ImageRef, HostError> {
        self.enter_call("resolve_image", &context).await?;
        let named = reference.split_once('@').map_or(&*reference, |(named, _digest)| named);
        let named = named.strip_prefix("local/").unwrap_or(named);
        let (repository, tag) = named.split_once(':').unwrap_or((named, "latest"));
        let imported = self.lock().images.get(&reference).map(|image| image.digest.clone());
        let published = PUBLISHED.contains(&repository);
        let digest = match imported {
            Some(digest) => digest,
            None if published => format!("sha256:{}", "0".repeat(64)),
            None => return Err(HostError::NotFound(format!("no image {reference}"))),
        };
        Ok(ImageRef {
            registry: "local".into(),
            repository: repository.into(),
            tag: tag.into(),
            digest,
            labels: BTreeMap::new(),
        })
    }

    async fn import_image(
        &self,
        context: CallContext,
        name: ImportName,
        mut tar: ImageUpload,
    ) -> Result<BoxStream<'static, ImageProgress>, HostError> {
        self.enter_call("import_image", &context).await?;
        let mut data = Vec::new();
        let read = tar.read_to_end(&mut data).await;
        read.map_err(|err| HostError::Invalid(format!("read the tar: {err}")))?;
        let ImportName { name, file_name } = name;
        let name = name.or(file_name).unwrap_or_else(|| "imported:latest".into());
        let image = Image {
            references: vec![name.clone()],
            digest: format!("sha256:{:064x}", data.len()),
            size: data.len() as u64,
            created_at: String::new(),
            used_by: 0,
        };
        self.lock().images.insert(name, image.clone());
        let (done, total) = (image.size, image.size);
        let step = ImageProgress::Step { name: "tar".into(), done, total };
        Ok(stream::iter([step, ImageProgress::Done { image }]).boxed())
    }

    async fn images(&self, context: CallContext) -> Result<Vec<Image>, HostError> {
        self.enter_call("images", &context).await?;
        Ok(self.lock().images.values().cloned().collect())
    }

    async fn remove_image(
        &self,
        context: CallContext,
        reference: String,
    ) -> Result<bool, HostError> {
        self.enter_call("remove_image", &context).await?;
        Ok(self.lock().images.remove(&reference).is_some())
    }
}
