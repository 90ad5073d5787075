//! The name of an image that brings none along: that of its file.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Indexes are small; more is not looked at.
const MOST: u64 = 4 << 20;

/// A name for the image, if it has none of its own: `web` for `web.tar`, with the
/// tag that the layout gives it, if any. What cannot be read has no name either;
/// the import itself then reports the reason.
pub(super) fn default_name(path: &Path) -> Option<String> {
    let stem = stem(path)?;
    if let Some(text) = entry(path, "manifest.json") {
        let images: Vec<Saved> = serde_json::from_str(&text).ok()?;
        let named = images
            .iter()
            .any(|image| image.repo_tags.as_ref().is_some_and(|tags| !tags.is_empty()));
        return (!named).then(|| format!("{stem}:latest"));
    }
    let index: Index = serde_json::from_str(&entry(path, "index.json")?).ok()?;
    let names: Vec<&str> = index.manifests.iter().filter_map(Descriptor::name).collect();
    match names.as_slice() {
        [] => Some(format!("{stem}:latest")),
        // Only a tag, as the specification has it.
        [tag] if !tag.contains([':', '/']) => Some(format!("{stem}:{tag}")),
        _ => None,
    }
}

/// `manifest.json` of `docker save`.
#[derive(Deserialize)]
struct Saved {
    #[serde(rename = "RepoTags", default)]
    repo_tags: Option<Vec<String>>,
}

/// `index.json` of an OCI image layout.
#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Descriptor {
    fn name(&self) -> Option<&str> {
        let keys = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
        keys.iter().find_map(|key| self.annotations.get(*key)).map(String::as_str)
    }
}

/// A small file of a directory or of a tar file.
fn entry(path: &Path, name: &str) -> Option<String> {
    let mut text = String::new();
    if path.is_dir() {
        File::open(path.join(name)).ok()?.take(MOST).read_to_string(&mut text).ok()?;
        return Some(text);
    }
    let mut archive = tar::Archive::new(File::open(path).ok()?);
    for file in archive.entries_with_seek().ok()? {
        let file = file.ok()?;
        let found = file.path().ok()?.strip_prefix("./").is_ok_and(|p| p == Path::new(name))
            || file.path().ok()? == Path::new(name);
        if found {
            file.take(MOST).read_to_string(&mut text).ok()?;
            return Some(text);
        }
    }
    None
}

/// The file's name, as it is sent to the platform.
pub(super) fn file_name(path: &Path) -> Option<String> {
    Some(path.canonicalize().ok()?.file_name()?.to_str()?.to_owned())
}

/// The file's name without its endings, as a repository may be called.
fn stem(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let endings = [".gz", ".zst", ".xz", ".tgz", ".tar", ".oci"];
    let mut stem = name.as_str();
    for ending in endings {
        stem = stem.strip_suffix(ending).unwrap_or(stem);
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let stem: String = stem.chars().map(plain).collect();
    let stem = stem.trim_matches('-').to_owned();
    (!stem.is_empty()).then_some(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_name_gets_its_file_s() {
        let dir = tempfile::tempdir().unwrap();
        let layout = dir.path().join("My_Web.oci");
        std::fs::create_dir(&layout).unwrap();
        let name = |index: &str| {
            std::fs::write(layout.join("index.json"), index).unwrap();
            default_name(&layout)
        };
        let with = |key: &str, name: &str| {
            format!(r#"{{"manifests":[{{"annotations":{{"{key}":"{name}"}}}}]}}"#)
        };
        let reference = "org.opencontainers.image.ref.name";
        assert_eq!(name(r#"{"manifests":[{}]}"#).as_deref(), Some("my-web:latest"));
        assert_eq!(name(&with(reference, "v2")).as_deref(), Some("my-web:v2"));
        assert_eq!(name(&with(reference, "registry.test/web:v2")), None);
        assert_eq!(name(&with("io.containerd.image.name", "docker.io/library/web:1")), None);
        assert_eq!(name("{"), None);
    }

    #[test]
    fn names_of_a_tar_of_docker_save() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.tar.gz");
        for (tags, name) in
            [("null", Some("web:latest")), ("[]", Some("web:latest")), (r#"["web:1"]"#, None)]
        {
            let mut tar = tar::Builder::new(File::create(&path).unwrap());
            let text = format!(r#"[{{"RepoTags":{tags}}}]"#);
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, "./manifest.json", text.as_bytes()).unwrap();
            tar.finish().unwrap();
            assert_eq!(default_name(&path).as_deref(), name, "{tags}");
        }
    }
}
