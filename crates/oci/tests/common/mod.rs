//! Images made by hand, and a store to put them into.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

use camino::{Utf8Path, Utf8PathBuf};
use oci::{OciConfig, OciImages};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use worker::ports::{ImageArchive, ImageError, ImageSummary, Images as _, Progress};

pub(crate) fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A tar of plain files.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = ::tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *data).unwrap();
    }
    tar.into_inner().unwrap()
}

/// An image as blobs by digest.
#[derive(Clone, Default)]
pub(crate) struct Image {
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) manifest: String,
    pub(crate) config: String,
    pub(crate) layers: Vec<String>,
    pub(crate) diff_ids: Vec<String>,
}

impl Image {
    /// Of layers as they come and the tars within.
    pub(crate) fn new(layers: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let mut image = Self::default();
        for (packed, tar) in layers {
            let digest = image.add(packed);
            image.layers.push(digest);
            image.diff_ids.push(sha(tar));
        }
        image.seal();
        image
    }

    /// Makes config and manifest.
    pub(crate) fn seal(&mut self) {
        let ids: Vec<_> = self.diff_ids.iter().map(|id| format!("sha256:{id}")).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Entrypoint": null, "Cmd": ["/app"], "Env": ["A=b"], "WorkingDir": "/srv",
                       "User": "web", "StopSignal": "SIGINT", "Labels": {"k": "v"}},
            "rootfs": {"type": "layers", "diff_ids": ids},
        });
        self.config = self.add(config.to_string().as_bytes());
        let descriptor = |kind: &str, digest: &String| {
            let size = self.blobs[digest].len();
            serde_json::json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": size})
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &self.config),
            "layers": self.layers.iter()
                .map(|digest| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", digest))
                .collect::<Vec<_>>(),
        });
        self.manifest = self.add(manifest.to_string().as_bytes());
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) -> String {
        let digest = sha(bytes);
        self.blobs.insert(digest.clone(), bytes.to_vec());
        digest
    }

    pub(crate) fn digest(&self) -> String {
        format!("sha256:{}", self.manifest)
    }

    /// The files of an OCI layout, through an index that offers another platform, too.
    pub(crate) fn layout(&self, ref_name: Option<&str>) -> Vec<(String, Vec<u8>)> {
        let annotations = match ref_name {
            Some(name) => serde_json::json!({"org.opencontainers.image.ref.name": name}),
            None => serde_json::Value::Null,
        };
        let inner = serde_json::json!({"schemaVersion": 2, "manifests": [
            {"digest": format!("sha256:{}", "0".repeat(64)), "size": 1,
             "platform": {"os": "linux", "architecture": "arm64"}},
            {"digest": self.digest(), "size": self.blobs[&self.manifest].len(),
             "platform": {"os": "linux", "architecture": "amd64"}},
        ]})
        .to_string();
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [
            {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": format!("sha256:{}", sha(inner.as_bytes())),
             "size": inner.len(), "annotations": annotations}]});
        let mut files = vec![
            ("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".into(), index.to_string().into_bytes()),
            (format!("blobs/sha256/{}", sha(inner.as_bytes())), inner.into_bytes()),
        ];
        for (digest, bytes) in &self.blobs {
            files.push((format!("blobs/sha256/{digest}"), bytes.clone()));
        }
        files
    }
}

pub(crate) fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let files: Vec<_> = files.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
    tar(&files)
}

pub(crate) fn quiet() -> Progress {
    Arc::new(|_, _, _| {})
}

/// A directory for one test and a store in it.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) images: OciImages,
    pub(crate) clock: rt::Clock,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut OciConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config =
            OciConfig::new(Utf8PathBuf::from_path_buf(dir.path().join("oci")).unwrap());
        config.allow_loopback_registry = true;
        change(&mut config);
        let clock = rt::Clock::manual(7_000_000);
        let images = OciImages::open(config, clock.clone()).unwrap();
        Self { dir, images, clock }
    }

    /// Imports an archive of the file name that `path` ends with.
    pub(crate) async fn import(
        &self,
        path: &Utf8Path,
        name: Option<&str>,
    ) -> Result<ImageSummary, ImageError> {
        let archive = ImageArchive { path, name, file_name: path.file_name() };
        self.images.import(archive, quiet()).await
    }

    pub(crate) fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(self.dir.path().join(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Utf8PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn layout(&self, name: &str, files: &[(String, Vec<u8>)]) -> Utf8PathBuf {
        for (file, bytes) in files {
            self.write(&format!("{name}/{file}"), bytes);
        }
        self.path(name)
    }

    /// Names of all files in the store that no record names.
    pub(crate) fn files(&self, dir: &str) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.path("oci").join(dir))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// A file of a root image.
pub(crate) fn cat(root: &Utf8Path, file: &str) -> String {
    let out = std::process::Command::new("unsquashfs").args(["-cat", root.as_str(), file]).output();
    String::from_utf8(out.unwrap().stdout).unwrap()
}
