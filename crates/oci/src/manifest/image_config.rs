//! The config of an image.

use crate::content::digest::Digest;
use crate::content::unpack::Expected;
use crate::error::{Error, Result};
use crate::manifest::document::{ImageManifest, nullable};
use crate::manifest::labels;
use serde::Deserialize;
use std::collections::BTreeMap;
use worker::ports::ImageConfig;

/// To system calls such as `setuid` the id 2^32-1 means "no change": a process
/// that is given it keeps running as root.
const NO_ID: u64 = u32::MAX as u64;

/// The parts of an image's config that are needed here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    #[serde(deserialize_with = "nullable")]
    architecture: String,
    #[serde(deserialize_with = "nullable")]
    os: String,
    #[serde(deserialize_with = "nullable")]
    config: RunConfig,
    #[serde(deserialize_with = "nullable")]
    rootfs: RootFs,
    /// Labels beyond the limits, which were removed.
    #[serde(skip)]
    removed_labels: usize,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RootFs {
    #[serde(deserialize_with = "nullable")]
    diff_ids: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RunConfig {
    #[serde(deserialize_with = "nullable")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    env: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    user: String,
    #[serde(deserialize_with = "nullable")]
    working_dir: String,
    #[serde(deserialize_with = "nullable")]
    stop_signal: String,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
}

impl Config {
    /// Parses a config, and refuses one that guests cannot run.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut found: Self = serde_json::from_slice(bytes)
            .map_err(|err| Error::refused(format!("its config does not parse: {err}")))?;
        let (os, arch) = (&found.os, &found.architecture);
        if !matches!(&**os, "" | "linux") || !matches!(&**arch, "" | "amd64") {
            return Err(Error::refused(format!("it is for {os}/{arch}, not for linux/amd64")));
        }
        check_user(&found.config.user)?;
        found.removed_labels = labels::bound(&mut found.config.labels);
        Ok(found)
    }

    /// A line about what of the config is not used, if anything.
    pub(crate) fn left_out(&self) -> Option<String> {
        let removed = self.removed_labels;
        (removed > 0).then(|| format!("left out {removed} labels, too many or too long"))
    }

    /// Digests of the layers' tars, lowest first.
    pub(crate) fn diff_ids(&self) -> Result<Vec<Digest>> {
        self.rootfs.diff_ids.iter().map(|text| Digest::within(text)).collect()
    }

    /// The digests that each layer of the image `manifest` must have.
    pub(crate) fn expected(&self, manifest: &ImageManifest) -> Result<Vec<Expected>> {
        let diff_ids = self.diff_ids()?;
        if diff_ids.len() != manifest.layers.len() {
            return Err(Error::refused(format!(
                "its manifest has {} layers, its config {}",
                manifest.layers.len(),
                diff_ids.len()
            )));
        }
        let pairs = manifest.layers.iter().zip(diff_ids);
        pairs
            .map(|(layer, diff_id)| {
                // Encrypted layers and other types are no root file system.
                let kind = &layer.media_type;
                if !kind.is_empty() && (!kind.contains("tar") || kind.contains("encrypted")) {
                    return Err(Error::refused(format!("its layer of type {kind:?} is no tar")));
                }
                Ok(Expected { digest: Some(layer.digest()?), diff_id })
            })
            .collect()
    }

    /// The part that a machine uses.
    pub(crate) fn image_config(&self) -> ImageConfig {
        let run = self.config.clone();
        ImageConfig {
            entrypoint: run.entrypoint,
            cmd: run.cmd,
            env: run.env,
            user: run.user,
            workdir: run.working_dir,
            stop_signal: run.stop_signal,
            labels: run.labels,
        }
    }
}

/// Refuses a `USER` with an id that no process can have. Names are looked up in
/// the guest.
pub(crate) fn check_user(user: &str) -> Result<()> {
    for id in user.split(':').map(str::trim) {
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        if id.parse::<u64>().is_ok_and(|id| id < NO_ID) {
            continue;
        }
        let shown: String = id.chars().take(40).collect();
        return Err(Error::refused(format!(
            "its USER has the id {shown}, and ids end at {}",
            NO_ID - 1
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_no_process_can_have_is_refused_with_its_id() {
        for (user, id) in [
            ("4294967295", "4294967295"),
            ("0:4294967295", "4294967295"),
            ("web:4294967296", "4294967296"),
            ("99999999999999999999999", "99999999999999999999999"),
        ] {
            let config = format!(r#"{{"config": {{"User": "{user}"}}}}"#);
            match Config::parse(config.as_bytes()) {
                Err(Error::Refused(problem)) => assert_eq!(
                    problem,
                    format!("its USER has the id {id}, and ids end at 4294967294")
                ),
                other => panic!("{user}: {other:?}"),
            }
        }
        for user in ["", "root", "web:web", "4294967294:0", "1000", "-1x"] {
            assert!(check_user(user).is_ok(), "{user}");
        }
    }

    #[test]
    fn a_stop_signal_is_kept_as_the_image_writes_it() {
        for signal in ["SIGQUIT", "QUIT", "3", "SIGRTMIN+3"] {
            let config = format!(r#"{{"config": {{"StopSignal": "{signal}"}}}}"#);
            let config = Config::parse(config.as_bytes()).unwrap();
            assert_eq!(config.image_config().stop_signal, signal);
        }
    }
}
