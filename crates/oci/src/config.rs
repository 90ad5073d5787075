//! What the operator can set.

use base64::Engine as _;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use worker::ports::PortError;

/// Settings of the image store.
#[derive(Clone, Debug)]
pub struct OciConfig {
    /// Directory that the store owns; made if absent.
    pub dir: Utf8PathBuf,
    /// What an image may be at most.
    pub limits: Limits,
    /// Who we are to which registry.
    pub credentials: Credentials,
    /// How root images are compressed.
    pub compression: Compression,
    /// Downloads at once, per image.
    pub parallel_layers: usize,
    /// How long a registry may be silent.
    pub read_timeout: Duration,
    /// How long one pull may take as a whole.
    pub pull_deadline: Duration,
    /// How long an image that was asked for is not collected, named or not: so
    /// long its user has to write down that it needs it.
    pub grace: Duration,
    /// Tries of one request that bring no new byte.
    pub attempts: u32,
    /// The program that writes SquashFS from a tar, of `squashfs-tools` 4.5 or later.
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
            parallel_layers: 4,
            read_timeout: Duration::from_secs(30),
            pull_deadline: Duration::from_secs(30 * 60),
            grace: Duration::from_secs(10 * 60),
            attempts: 5,
            sqfstar: "sqfstar".into(),
        }
    }
}

/// Compression of root images. None is the fastest to make and to read, and
/// costs disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Bytes as they are.
    #[default]
    None,
    /// LZ4.
    Lz4,
    /// Zstandard, level 3.
    Zstd,
}

/// What an image may be at most; more is refused.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all layers, unpacked (8 GiB, as on Fly: E015).
    pub unpacked_bytes: u64,
    /// Entries of all layers.
    pub entries: u64,
    /// Layers.
    pub layers: usize,
    /// Bytes of a manifest or an index.
    pub manifest_bytes: u64,
    /// Bytes of an image config.
    pub config_bytes: u64,
    /// Bytes of a path or of a link's target.
    pub path_bytes: usize,
    /// Directories within each other.
    pub depth: usize,
    /// Bytes of all extended attributes of one entry.
    pub xattr_bytes: usize,
    /// Bytes of all names, links and extended attributes of an image, also of
    /// those that a later layer replaces. They are held in memory.
    pub metadata_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unpacked_bytes: 8 << 30,
            entries: 1_000_000,
            layers: 256,
            manifest_bytes: 4 << 20,
            config_bytes: 8 << 20,
            path_bytes: 4096,
            depth: 256,
            xattr_bytes: 128 << 10,
            metadata_bytes: 256 << 20,
        }
    }
}

/// User and password for a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password or token.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Logins by the registry's host (with port, if it has one); Docker Hub is `docker.io`.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    logins: BTreeMap<String, Login>,
}

#[derive(serde::Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, AuthEntry>,
}

#[derive(serde::Deserialize)]
struct AuthEntry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

impl Credentials {
    /// Uses `login` for the registry `host`.
    pub fn insert(&mut self, host: &str, login: Login) {
        self.logins.insert(canonical_host(host), login);
    }

    /// The login for a registry.
    pub fn get(&self, host: &str) -> Option<&Login> {
        self.logins.get(&canonical_host(host))
    }

    /// Reads a file as `docker login` writes it (`config.json` with `auths`).
    ///
    /// # Errors
    /// If the file can't be read or parsed.
    pub fn from_auth_file(path: &Utf8Path) -> Result<Self, PortError> {
        let attempted = || format!("read registry logins from {path}");
        let text = std::fs::read(path).map_err(|err| PortError::new(attempted(), err))?;
        let file: AuthFile =
            serde_json::from_slice(&text).map_err(|err| PortError::new(attempted(), err))?;
        let mut credentials = Self::default();
        for (host, entry) in file.auths {
            if let Some(login) = entry.login() {
                credentials.insert(&host, login);
            } else {
                tracing::warn!(%host, %path, "entry holds no user and password, ignored");
            }
        }
        Ok(credentials)
    }
}

impl AuthEntry {
    fn login(self) -> Option<Login> {
        if !self.username.is_empty() {
            return Some(Login { user: self.username, password: self.password });
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(self.auth).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Login { user: user.into(), password: password.trim_end_matches('\0').into() })
    }
}

/// `docker login` writes Docker Hub as a URL.
fn canonical_host(host: &str) -> String {
    let host = host.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or_default();
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        host => host.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_auth_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("config.json")).unwrap();
        std::fs::write(
            &path,
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6c2VjOnJldA=="},
                "127.0.0.1:5000":{"username":"u","password":"p"},"empty.example":{}}}"#,
        )
        .unwrap();
        let found = Credentials::from_auth_file(&path).unwrap();
        let login =
            |user: &str, password: &str| Login { user: user.into(), password: password.into() };
        assert_eq!(found.get("docker.io"), Some(&login("me", "sec:ret")));
        assert_eq!(found.get("127.0.0.1:5000"), Some(&login("u", "p")));
        assert_eq!(found.get("empty.example"), None);
        assert!(!format!("{found:?}").contains("sec:ret"));
    }
}
