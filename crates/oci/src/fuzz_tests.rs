//! Fuzz targets: manifests, configs and layers of images.

use crate::config::cpu_level::CpuLevel;
use crate::config::limits::Limits;
use crate::content::blob::Blob;
use crate::error::Error;
use crate::flatten::merge::merge;
use crate::layer::testing::header;
use crate::manifest::document::Manifest;
use crate::manifest::image_config::Config;
use crate::manifest::platform::candidates;
use fuzzing::fuzz;
use serde_json::json;
use std::io::Write as _;
use tar::EntryType;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Inodes that a merge makes beside those of the entries: the root, and missing parents.
const PARENTS: usize = 64;

#[test]
fn manifests() {
    let media = |name: &str| format!("application/vnd.oci.image.{name}");
    let part = |name: &str| json!({ "mediaType": media(name), "digest": DIGEST, "size": 32 });
    let layers = [part("layer.v1.tar+gzip"), part("layer.v1.tar")];
    let platform = json!({ "os": "linux", "architecture": "amd64", "variant": "v2" });
    let listed = json!({ "digest": DIGEST, "size": 7, "platform": platform });
    let seeds = [
        json!({ "schemaVersion": 2, "mediaType": media("manifest.v1+json"),
                "config": part("config.v1+json"), "layers": layers }),
        json!({ "schemaVersion": 2, "mediaType": media("index.v1+json"), "manifests": [listed] }),
    ]
    .map(|seed| seed.to_string());
    fuzz!(8000, seeds, |bytes: &[u8]| {
        match Manifest::parse(bytes) {
            Ok(Manifest::Index(listed)) => {
                if let Ok(found) = candidates(&listed, CpuLevel::V2) {
                    assert!((1..=listed.len()).contains(&found.len()), "{}", found.len());
                }
            }
            Ok(Manifest::Image(image)) => {
                for part in image.layers.iter().chain([&image.config]) {
                    let _ = part.digest();
                }
            }
            Ok(Manifest::Artifact(kind)) => assert!(kind.len() <= bytes.len()),
            Err(_) => {}
        }
    });
}

#[test]
fn configs() {
    let run = json!({ "Entrypoint": ["/a"], "Cmd": ["b"], "Env": ["A=1"], "User": "1000:1000",
                      "WorkingDir": "/srv", "StopSignal": "SIGQUIT", "Labels": { "a": "b" },
                      "ExposedPorts": { "80/tcp": {} } });
    let seeds = [
        json!({ "architecture": "amd64", "os": "linux", "config": run,
                "rootfs": { "type": "layers", "diff_ids": [DIGEST] } }),
        json!({ "config": null, "rootfs": { "diff_ids": null } }),
    ]
    .map(|seed| seed.to_string());
    fuzz!(8000, seeds, |bytes: &[u8]| {
        let Ok(config) = Config::parse(bytes) else { return };
        let _ = (config.left_out(), config.diff_ids());
        assert!(format!("{:?}", config.image_config()).len() < 1000 + 100 * bytes.len());
    });
}

/// A layer of entries: kind, name, target of a link, content.
fn layer(entries: &[(EntryType, &str, &str, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (kind, name, target, data) in entries {
        let mut header = header(*kind, name, data.len());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(data);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.extend_from_slice(&[0; 1024]);
    tar
}

fn layers() -> Vec<Vec<u8>> {
    use EntryType::{Directory, Fifo, GNULongName, Link, Regular, Symlink, XHeader};
    let attributes = b"30 path=a/very/long/name/here\n31 SCHILY.xattr.user.a=0123456\n";
    let sparse = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n27 GNU.sparse.realsize=99\n";
    vec![
        layer(&[
            (Directory, "a/", "", b""),
            (Regular, "a/b", "", b"text"),
            (Link, "c", "a/b", b""),
            (Symlink, "d", "../a", b""),
        ]),
        layer(&[
            (Regular, "a/.wh.b", "", b""),
            (Regular, ".wh..wh..opq", "", b""),
            (Fifo, "f", "", b""),
        ]),
        layer(&[(XHeader, "pax", "", attributes), (Regular, "x", "", b"y")]),
        layer(&[(XHeader, "pax", "", sparse), (Regular, "s", "", b"1\n0\n1\n")]),
        layer(&[(GNULongName, "././@LongLink", "", b"a/long/name\0"), (Regular, "n", "", b"")]),
    ]
}

/// With right checksums in its headers: without, no header that was edited is read.
fn with_checksums(mut tar: Vec<u8>) -> Vec<u8> {
    for block in tar.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    tar
}

fn blob(bytes: &[u8]) -> Blob {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Blob::whole(file).unwrap()
}

/// A layer is merged or refused: nothing in it is an error of this host.
#[test]
fn layers_of_images() {
    let limits = Limits { entries: 1000, unpacked_bytes: 1 << 20, ..Limits::default() };
    fuzz!(3000, layers(), |bytes: &[u8]| {
        let first = blob(&with_checksums(bytes.to_vec()));
        match merge(&[first, blob(&layers()[1])], limits) {
            Ok(tree) => assert!(tree.inodes() <= bytes.len() / 512 + PARENTS, "{}", tree.inodes()),
            Err(Error::Refused(problem)) => assert!(problem.len() < 4096, "{}", problem.len()),
            Err(Error::Failed(error)) => panic!("{error}"),
        }
    });
}
