//! What registries say, in our words.

use crate::blob::Blob;
use crate::config::OciConfig;
use crate::digest::Digest;
use crate::fault::Fault;
use crate::manifest::{self, Config, ImageManifest, Manifest};
use crate::reference::ImageName;
use futures_util::{Stream, StreamExt};
use oci_client::Reference;
use oci_client::client::{BlobResponse, Client, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError as Error, OciErrorCode};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncWriteExt, BufWriter};
use worker::ports::{ImageError, PortError};

const ACCEPTED: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MAX_NESTING: usize = 4;
/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// One registry as seen by one pull.
pub(crate) struct Registry {
    client: Client,
    auth: RegistryAuth,
    name: ImageName,
    attempts: u32,
    rng: rt::Rng,
}

/// The bytes that follow, and whether they begin at the asked offset.
type Bytes = (Pin<Box<dyn Stream<Item = io::Result<Chunk>> + Send>>, bool);
type Chunk = Vec<u8>;

impl Registry {
    /// The registry of `name`, with our login there.
    pub(crate) fn new(
        name: &ImageName,
        config: &OciConfig,
        rng: &rt::Rng,
    ) -> Result<Self, ImageError> {
        let protocol = match name.is_loopback() {
            true => ClientProtocol::Http,
            false => ClientProtocol::Https,
        };
        let client = Client::try_from(ClientConfig {
            protocol,
            read_timeout: Some(config.read_timeout),
            connect_timeout: Some(config.read_timeout.min(Duration::from_secs(10))),
            user_agent: concat!("updraft/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        })
        .map_err(|err| PortError::new("set up a registry client", err))?;
        let auth = match config.credentials.get(name.registry()) {
            Some(login) => RegistryAuth::Basic(login.user.clone(), login.password.clone()),
            None => RegistryAuth::Anonymous,
        };
        let (name, rng) = (name.clone(), rng.clone());
        Ok(Self { client, auth, name, attempts: config.attempts.max(1), rng })
    }

    /// The digest of the manifest for our platform that the name stands for now.
    pub(crate) async fn digest(&self, config: &OciConfig) -> Result<Digest, ImageError> {
        let (digest, _, _) = self.manifest_of(self.name.reference().clone(), config).await?;
        Ok(digest)
    }

    /// The manifest behind a digest, as it came and parsed.
    pub(crate) async fn manifest(
        &self,
        digest: &Digest,
        config: &OciConfig,
    ) -> Result<(Vec<u8>, ImageManifest), ImageError> {
        let (found, bytes, image) = self.manifest_of(self.name.at(digest), config).await?;
        if found != *digest {
            let problem = format!("{digest} is an index of several images, not one");
            return Err(self.refused(Fault::refused(problem)));
        }
        Ok((bytes, image))
    }

    async fn manifest_of(
        &self,
        from: Reference,
        config: &OciConfig,
    ) -> Result<(Digest, Vec<u8>, ImageManifest), ImageError> {
        let mut reference = from;
        for _ in 0..MAX_NESTING {
            let bytes = self.document(&reference, config).await?;
            let digest = Digest::of(&bytes);
            match Manifest::parse(&bytes).map_err(|fault| self.refused(fault))? {
                Manifest::Image(image) => return Ok((digest, bytes, image)),
                Manifest::Index(listed) => {
                    let chosen = manifest::choose(&listed)
                        .and_then(|chosen| Digest::within(&chosen.digest))
                        .map_err(|fault| self.refused(fault))?;
                    reference = self.name.at(&chosen);
                }
            }
        }
        Err(self.refused(Fault::refused("its indexes are nested too deeply")))
    }

    async fn document(&self, at: &Reference, config: &OciConfig) -> Result<Vec<u8>, ImageError> {
        let mut tries = self.tries();
        loop {
            let told = self.client.pull_manifest_raw(at, &self.auth, ACCEPTED).await;
            let error = match told {
                Ok((bytes, _)) if bytes.len() as u64 > config.limits.manifest_bytes => {
                    let limit = config.limits.manifest_bytes;
                    let problem = format!("its manifest exceeds the limit of {limit} bytes");
                    return Err(self.refused(Fault::refused(problem)));
                }
                // The library has compared it with the digest, if one was asked for.
                Ok((bytes, _)) => return Ok(bytes.to_vec()),
                Err(err) => self.words(err, "fetch the manifest"),
            };
            tries.again(error).await?;
        }
    }

    /// The config of an image, as it came and parsed.
    pub(crate) async fn config(
        &self,
        image: &ImageManifest,
        partial: &std::path::Path,
        config: &OciConfig,
    ) -> Result<(Vec<u8>, Config), ImageError> {
        let limit = config.limits.config_bytes;
        if image.config.size > limit {
            let problem = format!("its config exceeds the limit of {limit} bytes");
            return Err(self.refused(Fault::refused(problem)));
        }
        let refuse = |fault| self.refused(fault);
        let digest = Digest::within(&image.config.digest).map_err(refuse)?;
        let blob = self.blob(&digest, image.config.size, partial, &|_| {}).await?;
        let read = move || blob.blob.bytes();
        let bytes = tokio::task::spawn_blocking(read)
            .await
            .map_err(|err| refuse(crate::fault::lost(err)))?;
        let bytes = bytes.map_err(|err| PortError::new("read an image's config", err))?;
        let _ = tokio::fs::remove_file(partial).await;
        crate::spool::verify("config", &digest, &Digest::of(&bytes)).map_err(refuse)?;
        let parsed = Config::parse(&bytes).map_err(refuse)?;
        Ok((bytes, parsed))
    }

    /// Brings a blob into the file `partial`, continuing what is there. Its
    /// length is right then; its digest is for the caller to verify.
    pub(crate) async fn blob(
        &self,
        digest: &Digest,
        size: u64,
        partial: &std::path::Path,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Fetched, ImageError> {
        let disk = |err| ImageError::from(PortError::new("write a downloaded layer", err));
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(partial).await.map_err(disk)?;
        let mut have = file.metadata().await.map_err(disk)?.len();
        if have > size {
            file.set_len(0).await.map_err(disk)?;
            have = 0;
        }
        let resumed = have > 0;
        progress(have);
        let mut tries = self.tries();
        while have < size {
            let before = have;
            match self.some(digest, size, &mut file, &mut have, progress).await {
                Ok(()) => {}
                Err(error @ ImageError::Refused { .. }) => {
                    let _ = tokio::fs::remove_file(partial).await;
                    return Err(error);
                }
                Err(error) => {
                    if have > before {
                        tries = self.tries();
                    }
                    tries.again(error).await?;
                }
            }
        }
        let blob = Blob::whole(file.into_std().await).map_err(disk)?;
        Ok(Fetched { blob, resumed })
    }

    /// Appends what one request brings. `have` follows what is in the file.
    async fn some(
        &self,
        digest: &Digest,
        size: u64,
        file: &mut File,
        have: &mut u64,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), ImageError> {
        use tokio::io::AsyncSeekExt;
        let disk = |err| ImageError::from(PortError::new("write a downloaded layer", err));
        let (mut stream, continues) = self.request(digest, *have).await?;
        if !continues {
            *have = 0;
        }
        file.set_len(*have).await.map_err(disk)?;
        file.seek(io::SeekFrom::Start(*have)).await.map_err(disk)?;
        let mut out = BufWriter::with_capacity(256 << 10, file);
        let mut end = Ok(());
        while let Some(chunk) = stream.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(err) => {
                    end = Err(self.broken(err));
                    break;
                }
            };
            if *have + chunk.len() as u64 > size {
                let problem = format!("blob {digest} is longer than the {size} bytes promised");
                return Err(self.refused(Fault::refused(problem)));
            }
            out.write_all(&chunk).await.map_err(disk)?;
            *have += chunk.len() as u64;
            progress(chunk.len() as u64);
        }
        out.flush().await.map_err(disk)?;
        match end {
            Ok(()) if *have < size => {
                let problem = format!("fetch blob {digest}: the registry sent too little");
                Err(ImageError::Failed(PortError::plain(problem).transient()))
            }
            end => end,
        }
    }

    async fn request(&self, digest: &Digest, from: u64) -> Result<Bytes, ImageError> {
        let layer = OciDescriptor { digest: digest.to_string(), ..OciDescriptor::default() };
        let at = self.name.reference();
        self.client.store_auth_if_needed(at.resolve_registry(), &self.auth).await;
        let told = match from {
            0 => self.client.pull_blob_stream(at, &layer).await.map(BlobResponse::Full),
            from => self.client.pull_blob_stream_partial(at, &layer, from, None).await,
        };
        match told.map_err(|err| self.words(err, "fetch a layer"))? {
            BlobResponse::Full(sized) => {
                Ok((Box::pin(sized.map(|chunk| chunk.map(|chunk| chunk.to_vec()))), from == 0))
            }
            BlobResponse::Partial(sized) => {
                Ok((Box::pin(sized.map(|chunk| chunk.map(|chunk| chunk.to_vec()))), true))
            }
        }
    }

    fn tries(&self) -> Tries {
        let pauses = rt::Backoff::new(Duration::from_millis(200), MAX_PAUSE);
        Tries { left: self.attempts - 1, pauses, rng: self.rng.clone() }
    }

    fn refused(&self, fault: Fault) -> ImageError {
        fault.of(&self.name.canonical())
    }

    /// A stream that broke off, or whose digest the library found wrong.
    fn broken(&self, err: io::Error) -> ImageError {
        let wrong_digest =
            err.get_ref().is_some_and(|inner| inner.is::<oci_client::errors::DigestError>());
        match wrong_digest {
            true => self.refused(Fault::refused(format!("a digest is wrong: {err}"))),
            false => ImageError::Failed(PortError::new("fetch a layer", err).transient()),
        }
    }

    fn words(&self, err: Error, attempted: &str) -> ImageError {
        let missing = |detail: String| ImageError::NotFound {
            reference: self.name.canonical(),
            detail: format!(": {detail}"),
        };
        let attempted = format!("{attempted} of {}", self.name.canonical());
        match err {
            Error::UnauthorizedError { .. } => missing("the registry denies access".into()),
            Error::AuthenticationFailure(_) => missing("the registry refuses the login".into()),
            Error::ImageManifestNotFoundError(_) => missing("no such manifest".into()),
            Error::RegistryError { ref envelope, .. } => {
                use OciErrorCode as Code;
                let first = envelope.errors.first();
                let absent = first.is_some_and(|first| {
                    matches!(
                        first.code,
                        Code::ManifestUnknown
                            | Code::NameUnknown
                            | Code::NotFound
                            | Code::BlobUnknown
                            | Code::ManifestBlobUnknown
                            | Code::Denied
                            | Code::Unauthorized
                    )
                });
                let busy = first.is_some_and(|first| first.code == Code::Toomanyrequests);
                match first {
                    Some(first) if absent => missing(clean(&first.message)),
                    _ if busy => ImageError::Failed(PortError::new(attempted, err).transient()),
                    _ => ImageError::Failed(PortError::new(attempted, err)),
                }
            }
            Error::ServerError { code: 404, .. } => {
                missing("the registry has no such thing".into())
            }
            Error::ServerError { code: 403, .. } => missing("the registry denies access".into()),
            Error::DigestError(err) => {
                self.refused(Fault::refused(format!("a digest is wrong: {err}")))
            }
            Error::ServerError { code, .. } if code == 429 || code == 408 || code >= 500 => {
                ImageError::Failed(PortError::new(attempted, err).transient())
            }
            Error::RequestError(_) | Error::IoError(_) => {
                ImageError::Failed(PortError::new(attempted, err).transient())
            }
            err => ImageError::Failed(PortError::new(attempted, err)),
        }
    }
}

/// A blob that came.
pub(crate) struct Fetched {
    pub(crate) blob: Blob,
    /// Part of it was here before: if the digest is wrong, that part may be to blame.
    pub(crate) resumed: bool,
}

/// Tries that are left.
struct Tries {
    left: u32,
    pauses: rt::Backoff,
    rng: rt::Rng,
}

impl Tries {
    /// Pauses before another try, if `error` may pass and tries are left.
    async fn again(&mut self, error: ImageError) -> Result<(), ImageError> {
        match &error {
            ImageError::Failed(cause) if cause.transient && self.left > 0 => {
                tracing::debug!(error = %rt::chain(&error), "will try again");
                self.left -= 1;
                tokio::time::sleep(self.pauses.pause(&self.rng)).await;
                Ok(())
            }
            _ => Err(error),
        }
    }
}

/// A foreign text, short and on one line.
fn clean(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    if text.is_empty() { "the registry has no such thing".into() } else { text }
}
