//! What registries say, in our words.

use crate::blob::Blob;
use crate::config::OciConfig;
use crate::digest::Digest;
use crate::fault::Fault;
use crate::http::{Http, broken};
use crate::manifest::{self, Config, ImageManifest, Manifest};
use crate::reference::ImageName;
use crate::spool::verify;
use reqwest::StatusCode;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncWriteExt, BufWriter};
use worker::ports::{ImageError, PortError};

const MAX_NESTING: usize = 4;
/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// One registry as seen by one pull.
pub(crate) struct Registry {
    http: Http,
    name: ImageName,
    attempts: u32,
    rng: rt::Rng,
}

impl Registry {
    /// The registry of `name`, with our login there.
    pub(crate) fn new(
        name: &ImageName,
        config: &OciConfig,
        rng: &rt::Rng,
    ) -> Result<Self, ImageError> {
        let http = Http::new(name, config)?;
        let (name, rng) = (name.clone(), rng.clone());
        Ok(Self { http, name, attempts: config.attempts.max(1), rng })
    }

    /// The digest of the manifest for our platform that the name stands for now.
    pub(crate) async fn digest(&self, config: &OciConfig) -> Result<Digest, ImageError> {
        let (digest, _, _) = self.manifest_of(self.name.digest(), config).await?;
        Ok(digest)
    }

    /// The manifest behind a digest, as it came and parsed.
    pub(crate) async fn manifest(
        &self,
        digest: &Digest,
        config: &OciConfig,
    ) -> Result<(Vec<u8>, ImageManifest), ImageError> {
        let (found, bytes, image) = self.manifest_of(Some(digest.clone()), config).await?;
        if found != *digest {
            let problem = format!("{digest} is an index of several images, not one");
            return Err(self.refused(Fault::refused(problem)));
        }
        Ok((bytes, image))
    }

    /// The manifest at a digest, or at the name's tag.
    async fn manifest_of(
        &self,
        from: Option<Digest>,
        config: &OciConfig,
    ) -> Result<(Digest, Vec<u8>, ImageManifest), ImageError> {
        let mut wanted = from;
        for _ in 0..MAX_NESTING {
            let at = wanted.as_ref().map_or_else(|| self.tag().to_owned(), Digest::to_string);
            let limit = config.limits.manifest_bytes;
            let bytes = self.document(&format!("manifests/{at}"), limit, "manifest").await?;
            let digest = Digest::of(&bytes);
            if let Some(wanted) = &wanted {
                verify("manifest", wanted, &digest).map_err(|fault| self.refused(fault))?;
            }
            match Manifest::parse(&bytes).map_err(|fault| self.refused(fault))? {
                Manifest::Image(image) => return Ok((digest, bytes, image)),
                Manifest::Index(listed) => {
                    let chosen = manifest::choose(&listed)
                        .and_then(|chosen| Digest::within(&chosen.digest))
                        .map_err(|fault| self.refused(fault))?;
                    wanted = Some(chosen);
                }
            }
        }
        Err(self.refused(Fault::refused("its indexes are nested too deeply")))
    }

    fn tag(&self) -> &str {
        match self.name.tag() {
            "" => "latest",
            tag => tag,
        }
    }

    async fn document(&self, path: &str, limit: u64, what: &str) -> Result<Vec<u8>, ImageError> {
        let mut tries = self.tries();
        loop {
            match self.http.document(path, limit, what).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    /// The config of an image, as it came and parsed.
    pub(crate) async fn config(
        &self,
        image: &ImageManifest,
        config: &OciConfig,
    ) -> Result<(Vec<u8>, Config), ImageError> {
        let limit = config.limits.config_bytes;
        let refuse = |fault| self.refused(fault);
        let digest = Digest::within(&image.config.digest).map_err(refuse)?;
        let bytes = self.document(&format!("blobs/{digest}"), limit, "config").await?;
        verify("config", &digest, &Digest::of(&bytes)).map_err(refuse)?;
        let parsed = Config::parse(&bytes).map_err(refuse)?;
        Ok((bytes, parsed))
    }

    /// Brings a blob into the file `partial`, continuing what is there. Its
    /// length is right then; its digest is for the caller to verify.
    pub(crate) async fn blob(
        &self,
        digest: &Digest,
        size: u64,
        partial: &Path,
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
        let mut answer = self.http.get(&format!("blobs/{digest}"), *have, "fetch a layer").await?;
        if answer.status() != StatusCode::PARTIAL_CONTENT {
            *have = 0;
        }
        file.set_len(*have).await.map_err(disk)?;
        file.seek(io::SeekFrom::Start(*have)).await.map_err(disk)?;
        let mut out = BufWriter::with_capacity(256 << 10, file);
        let mut end = Ok(());
        loop {
            let chunk = match answer.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(err) => {
                    end = Err(broken("fetch a layer", err));
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

    fn tries(&self) -> Tries {
        let pauses = rt::Backoff::new(Duration::from_millis(200), MAX_PAUSE);
        Tries { left: self.attempts - 1, pauses, rng: self.rng.clone() }
    }

    fn refused(&self, fault: Fault) -> ImageError {
        fault.of(&self.name.canonical())
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
