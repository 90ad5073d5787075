//! Settings of the image store.

use crate::config::cpu_level::CpuLevel;
use crate::config::credentials::Credentials;
use crate::config::limits::Limits;
use camino::Utf8PathBuf;
use std::time::Duration;

/// Settings of the image store.
#[derive(Clone, Debug)]
pub struct OciConfig {
    /// Directory of the store; created if absent.
    pub dir: Utf8PathBuf,
    /// Limits of one image.
    pub limits: Limits,
    /// Logins for registries.
    pub credentials: Credentials,
    /// How root images are compressed.
    pub compression: Compression,
    /// The x86-64 level of the guests' CPU. From an index with several amd64
    /// variants the highest that is not above it is chosen.
    pub guest_cpu: CpuLevel,
    /// Layers of one image that are downloaded at the same time.
    pub parallel_layers: usize,
    /// Imports that run at the same time.
    pub parallel_imports: usize,
    /// Pulls that run at the same time.
    pub parallel_pulls: usize,
    /// Imports, and likewise pulls, that may wait for another to end; more are
    /// refused.
    pub queued_jobs: usize,
    /// Bytes of the store's file system that imports and pulls leave free. More
    /// than the free space below which machines are stopped.
    pub disk_reserve_bytes: u64,
    /// Time without a byte after which a request to a registry fails.
    pub read_timeout: Duration,
    /// Longest duration of one pull, including the time it waits for others.
    pub pull_deadline: Duration,
    /// Time after its last use during which a pulled image that no machine uses
    /// stays in the store. Imported images stay until their names are removed.
    pub keep_pulled: Duration,
    /// Age of a partial download at which it is removed.
    pub keep_partial: Duration,
    /// Whether a registry at a loopback address of this host may be asked, over
    /// plain HTTP.
    pub allow_loopback_registry: bool,
    /// Time after its last `ensure` or `resolve` during which an image is not
    /// garbage-collected even without a name, so that the caller can record
    /// that it uses the image.
    pub grace: Duration,
    /// Attempts of one request, counted from zero after each byte of progress.
    pub attempts: u32,
    /// The program that writes SquashFS from a tar: `sqfstar` of
    /// `squashfs-tools` 4.5 or later.
    pub sqfstar: Utf8PathBuf,
}

impl OciConfig {
    /// The defaults, with the store in `dir`.
    pub fn new(dir: impl Into<Utf8PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            limits: Limits::default(),
            credentials: Credentials::default(),
            compression: Compression::None,
            guest_cpu: CpuLevel::V1,
            parallel_layers: 4,
            parallel_imports: 2,
            parallel_pulls: 4,
            queued_jobs: 64,
            disk_reserve_bytes: 640 << 20,
            allow_loopback_registry: false,
            read_timeout: Duration::from_secs(30),
            pull_deadline: Duration::from_secs(30 * 60),
            keep_pulled: Duration::from_secs(24 * 3600),
            keep_partial: Duration::from_secs(24 * 3600),
            grace: Duration::from_secs(10 * 60),
            attempts: 5,
            sqfstar: "sqfstar".into(),
        }
    }
}

/// Compression of root images. Without compression an image is fastest to
/// create and to read, and takes most disk space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// No compression.
    #[default]
    None,
    /// LZ4.
    Lz4,
    /// Zstandard, level 3.
    Zstd,
}
