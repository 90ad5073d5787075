//! Logins for registries.

use base64::Engine as _;
use camino::Utf8Path;
use std::collections::BTreeMap;
use std::fmt;
use worker::ports::PortError;

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

    /// The login for the registry `host`.
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
                tracing::warn!(%host, %path, "the entry has no user and password and is ignored");
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
    use camino::Utf8PathBuf;

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
