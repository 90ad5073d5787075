//! Imports of archives, checked in the root images.
#![allow(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

mod common;

use common::*;
use expect_test::{Expect, expect};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};
use testkit::skip::{Lacks, skip};
use worker::ports::{ImageArchive, ImageError, Images, Progress};

fn simple() -> Image {
    let (one, two, three) = (
        tar(&[("app", b"one"), ("etc/old", b"x")]),
        tar(&[("app", b"two"), ("etc/.wh.old", b"")]),
        tar(&[("srv/data", b"three")]),
    );
    Image::new(&[(gzip(&one), one), (zstd(&two), two), (three.clone(), three)])
}

async fn check_root(world: &World, reference: &str, digest: &str) {
    let found = world.images.resolve(reference).await.unwrap();
    assert_eq!((found.registry.as_str(), found.digest.as_str()), ("local", digest));
    let root = world.images.ensure(reference, digest, quiet()).await.unwrap();
    assert_eq!(cat(&root.path, "app"), "two");
    assert_eq!(cat(&root.path, "srv/data"), "three");
    assert_eq!(cat(&root.path, "etc/old"), "");
    assert_eq!(root.config.cmd, ["/app"]);
    assert_eq!((root.config.user.as_str(), root.config.stop_signal.as_str()), ("web", "SIGINT"));
    assert!(root.config.entrypoint.is_empty());
}

#[tokio::test]
async fn a_layout_comes_as_directory_or_tar_or_gzip() {
    let world = World::new();
    let (image, files) = (simple(), simple().layout(Some("demo/web:1")));
    let dir = world.layout("layout", &files);
    let summary = world.import(&dir, None).await.unwrap();
    assert_eq!(summary.references, ["demo/web:1"]);
    assert_eq!((summary.digest.clone(), summary.created_ms), (image.digest(), 7));
    check_root(&world, "demo/web:1", &image.digest()).await;
    // As the API shows it.
    let shown = format!("local/demo/web:1@{}", image.digest());
    check_root(&world, &shown, &image.digest()).await;
    assert_eq!(world.images.resolve(&shown).await.unwrap().repository, "demo/web");
    assert_eq!(world.images.resolve("local/demo/web:1").await.unwrap().repository, "demo/web");

    for (name, bytes) in [("x.tar", tar_of(&files)), ("x.tar.gz", gzip(&tar_of(&files)))] {
        let world = World::new();
        let path = world.write(name, &bytes);
        let summary = world.import(&path, Some("given")).await.unwrap();
        assert_eq!(summary.references, ["given:latest"]);
        check_root(&world, "docker.io/library/given:latest", &image.digest()).await;
    }
}

#[tokio::test]
async fn an_archive_without_a_full_name_gets_its_file_name_or_the_digest() {
    let world = World::new();
    let path = world.layout("web", &simple().layout(Some("v1")));
    let summary = world.import(&path, None).await.unwrap();
    assert_eq!(summary.references, ["web:v1"]);

    let world = World::new();
    let path = world.layout("web", &simple().layout(None));
    let summary = world.import(&path, None).await.unwrap();
    assert_eq!(summary.references, ["web:latest"]);
    check_root(&world, "web", &summary.digest).await;

    // Without a file name, as from a pipe.
    let world = World::new();
    let path = world.layout("web", &simple().layout(None));
    let archive = ImageArchive { path: &path, name: None, file_name: None };
    let summary = world.images.import(archive, quiet()).await.unwrap();
    assert_eq!(summary.references.join(" "), summary.digest);
    check_root(&world, &summary.digest, &summary.digest).await;
    assert_eq!(world.images.collect(&BTreeSet::new()).await.unwrap(), 0);
    assert!(
        world
            .images
            .remove(&summary.digest["sha256:".len()..][..12], &BTreeSet::new())
            .await
            .unwrap()
    );
    assert!(world.images.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn docker_save_with_its_links() {
    let (one, two) = (tar(&[("app", b"one")]), tar(&[("app", b"two")]));
    let three = tar(&[("srv/data", b"three")]);
    let tars = [&one, &two, &three, &two];
    let image = Image::new(&tars.map(|tar| (tar.clone(), tar.clone())));
    let manifest = serde_json::json!([{
        "Config": format!("{}.json", image.config), "RepoTags": ["me/app:3", "app:3"],
        "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar", "d/layer.tar"]}]);
    let mut builder = ::tar::Builder::new(Vec::new());
    let mut put = |name: &str, bytes: &[u8]| {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    put("manifest.json", manifest.to_string().as_bytes());
    put(&format!("{}.json", image.config), &image.blobs[&image.config]);
    put("a/layer.tar", &one);
    put("b/layer.tar", &gzip(&two));
    put("c/layer.tar", &three);
    let mut link = ::tar::Header::new_gnu();
    link.set_entry_type(::tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "d/layer.tar", "../b/layer.tar").unwrap();
    let world = World::new();
    let path = world.write("saved.tar", &builder.into_inner().unwrap());
    let first = world.import(&path, None).await.unwrap();
    assert_eq!(first.references, ["app:3", "me/app:3"]);
    check_root(&world, "me/app:3", &first.digest).await;
    // The same again is the same.
    let again = world.import(&path, Some("other:1")).await.unwrap();
    assert_eq!(again.references, ["other:1", "app:3", "me/app:3"]);
    assert_eq!((again.digest, again.size), (first.digest, first.size));
}

/// An archive of `docker save` with one image of these names.
fn saved(names: &[String]) -> Vec<u8> {
    let layer = tar(&[("app", b"one")]);
    let image = Image::new(&[(layer.clone(), layer.clone())]);
    let config = format!("{}.json", image.config);
    let list = serde_json::json!([{"Config": config, "RepoTags": names, "Layers": ["layer.tar"]}]);
    tar(&[
        ("manifest.json", list.to_string().as_bytes()),
        (config.as_str(), image.blobs[&image.config].as_slice()),
        ("layer.tar", layer.as_slice()),
    ])
}

#[tokio::test]
async fn the_names_that_an_archive_gives_to_an_image_are_bounded() {
    let names = |n: usize| (0..n).map(|n| format!("app:{n}")).collect::<Vec<_>>();
    let world = World::new();
    let path = world.write("many.tar", &saved(&names(65)));
    let error = world.import(&path, None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "image many.tar is refused: it gives 65 names to one image, more than 64"
    );
    assert!(world.files("names").is_empty() && world.images.list().await.unwrap().is_empty());
    // A name that is given twice is one name.
    let path = world.write("some.tar", &saved(&[names(64), names(64)].concat()));
    let summary = world.import(&path, None).await.unwrap();
    assert_eq!((summary.references.len(), world.files("names").len()), (64, 64));
}

#[tokio::test]
async fn names_move_and_data_goes_with_the_last() {
    let world = World::new();
    let old = simple();
    let tar = tar(&[("app", b"new")]);
    let new = Image::new(&[(gzip(&tar), tar)]);
    let keep = |image: &Image| BTreeSet::from([image.digest()]);
    for (image, dir) in [(&old, "old"), (&new, "new")] {
        let path = world.layout(dir, &image.layout(Some("app:1")));
        world.import(&path, None).await.unwrap();
    }
    assert_eq!(world.images.resolve("app:1").await.unwrap().digest, new.digest());
    assert_eq!(world.images.list().await.unwrap().len(), 2);
    assert_eq!(world.images.collect(&keep(&old)).await.unwrap(), 0);
    assert!(world.images.collect(&BTreeSet::new()).await.unwrap() > 0);
    assert_eq!(world.images.list().await.unwrap().len(), 1);
    assert!(world.images.remove("app:1", &keep(&new)).await.unwrap());
    assert!(!world.images.remove("app:1", &keep(&new)).await.unwrap());
    assert_eq!(world.images.list().await.unwrap()[0].references, [""; 0]);
    assert!(world.images.remove(&new.digest(), &BTreeSet::new()).await.unwrap());
    for dir in ["roots", "images", "names", "blobs", "tmp"] {
        assert!(world.files(dir).is_empty(), "{dir}: {:?}", world.files(dir));
    }
}

#[tokio::test]
async fn an_image_that_was_just_requested_is_not_collected() {
    let (world, image) = (World::new(), simple());
    let path = world.layout("l", &image.layout(Some("app:1")));
    world.import(&path, None).await.unwrap();
    let keep = BTreeSet::from([image.digest()]);
    assert!(world.images.remove("app:1", &keep).await.unwrap());
    // It has no name, and the caller has not recorded it yet.
    let digest = image.digest();
    let root = world.images.ensure(&digest, &digest, quiet()).await.unwrap();
    world.clock.advance(Duration::from_secs(9 * 60));
    assert_eq!(world.images.collect(&BTreeSet::new()).await.unwrap(), 0);
    assert!(root.path.exists());
    world.clock.advance(Duration::from_secs(60));
    assert!(world.images.collect(&BTreeSet::new()).await.unwrap() > 0);
    assert!(!root.path.exists());
}

#[tokio::test]
async fn remains_of_a_crash_are_never_taken_for_an_image() {
    let world = World::new();
    let (image, other) = (simple(), "b".repeat(64));
    let path = world.layout("l", &image.layout(Some("app:1")));
    world.import(&path, None).await.unwrap();
    let World { dir, images, clock } = world;
    drop(images);
    // A root without its record, a record without its root, half-written files.
    let store = dir.path().join("oci");
    std::fs::write(store.join(format!("roots/{other}.squashfs")), b"half").unwrap();
    std::fs::write(store.join("tmp/x.squashfs"), b"half").unwrap();
    std::fs::write(store.join("names/.y.json.1.tmp"), b"{").unwrap();
    std::fs::write(store.join(format!("partial/{other}")), b"half").unwrap();
    let record =
        std::fs::read_to_string(store.join(format!("images/{}.json", image.manifest))).unwrap();
    std::fs::write(
        store.join(format!("images/{other}.json")),
        record.replace(&image.manifest, &other),
    )
    .unwrap();
    let config = || oci::OciConfig::new(camino::Utf8PathBuf::from_path_buf(store.clone()).unwrap());
    let images = oci::OciImages::open(config(), clock.clone()).unwrap();
    let world = World { dir, images, clock };
    assert_eq!(world.images.list().await.unwrap().len(), 1);
    assert_eq!(world.files("roots"), [format!("{}.squashfs", image.manifest)]);
    assert_eq!(world.files("images"), [format!("{}.json", image.manifest)]);
    assert!(world.files("tmp").is_empty());
    assert_eq!(world.files("partial").len(), 1, "a download is resumed after a restart");
    assert_eq!(world.images.collect(&BTreeSet::new()).await.unwrap(), 0);
    written_at_the_epoch(&world.path(&format!("oci/partial/{other}")));
    world.clock.advance(Duration::from_secs(25 * 3600));
    assert_eq!(world.images.collect(&BTreeSet::new()).await.unwrap(), 4);
    // A root that was cut short is no image either.
    std::fs::write(store.join(format!("roots/{}.squashfs", image.manifest)), b"cut").unwrap();
    let images = oci::OciImages::open(config(), rt::Clock::manual(0)).unwrap();
    assert!(images.list().await.unwrap().is_empty());
}

fn written_at_the_epoch(path: &camino::Utf8Path) {
    std::fs::File::open(path).unwrap().set_modified(UNIX_EPOCH).unwrap();
}

async fn refused(world: &World, image: &Image, expected: Expect) {
    let path = world.layout("bad", &image.layout(Some("bad:1")));
    let error = world.import(&path, None).await.unwrap_err();
    let text = rt::chain(&error).replace(path.as_str(), "PATH");
    assert!(matches!(error, ImageError::Refused { .. }), "{text}");
    expected.assert_eq(&text);
    assert!(world.images.list().await.unwrap().is_empty());
    assert!(world.files("tmp").is_empty());
    assert!(world.files("roots").is_empty());
    std::fs::remove_dir_all(path).unwrap();
}

#[tokio::test]
async fn damaged_and_hostile_images_are_refused() {
    let world = World::with(|config| {
        config.limits.unpacked_bytes = 1 << 20;
        config.limits.layers = 3;
        config.limits.entries = 50;
    });
    let plain = tar(&[("app", b"x")]);
    let whole = gzip(&plain);

    let truncated = (whole[..whole.len() - 9].to_vec(), plain.clone());
    refused(
        &world,
        &Image::new(&[truncated]),
        expect!["image bad is refused: compressed data is damaged: incomplete deflate stream"],
    )
    .await;

    let mut wrong = Image::new(&[(whole.clone(), plain.clone())]);
    wrong.diff_ids[0] = "a".repeat(64);
    wrong.seal();
    refused(&world, &wrong, expect!["image bad is refused: digest of the unpacked layer is sha256:215333725760c9202e28770e0423c561c25f98bac84adb9ed48104034b29f181, not sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa as promised"]).await;

    let mut wrong = Image::new(&[(whole.clone(), plain.clone())]);
    let layer = wrong.layers[0].clone();
    wrong.blobs.insert(layer, gzip(b"other"));
    refused(&world, &wrong, expect!["image bad is refused: digest of the layer is sha256:5064a5a2ba05f307837962a01e6fce31cf6f238024c8b6c5ce9eaab4f2793c74, not sha256:6f8b511bf79e3422fd8885086f2ffd04bde9f5e71f92e168264140afe8e2d3a7 as promised"]).await;

    let mut wrong = Image::new(&[(whole.clone(), plain.clone())]);
    let config = wrong.config.clone();
    wrong.blobs.insert(config, b"{}".to_vec());
    refused(&world, &wrong, expect!["image bad is refused: digest of the file blobs/sha256/0417143a7d90d162ec037ce9916eea25ea4328c7f069ae5a4767deb5449f9df3 is sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a, not sha256:0417143a7d90d162ec037ce9916eea25ea4328c7f069ae5a4767deb5449f9df3 as promised"]).await;

    let bomb = vec![0; 64 << 20];
    refused(
        &world,
        &Image::new(&[(gzip(&bomb), bomb.clone())]),
        expect!["image bad is refused: unpacked, its layers exceed the limit of 1048576 bytes"],
    )
    .await;
    refused(
        &world,
        &Image::new(&[(zstd(&bomb), bomb)]),
        expect!["image bad is refused: unpacked, its layers exceed the limit of 1048576 bytes"],
    )
    .await;

    let names: Vec<_> = (0..51).map(|n| n.to_string()).collect();
    let many = tar(&names.iter().map(|name| (name.as_str(), &b""[..])).collect::<Vec<_>>());
    refused(
        &world,
        &Image::new(&[(gzip(&many), many)]),
        expect!["image bad is refused: layer 1: exceeds the limit of 50 entries"],
    )
    .await;

    let layers: Vec<_> = (0..4).map(|_| (whole.clone(), plain.clone())).collect();
    refused(
        &world,
        &Image::new(&layers),
        expect!["image bad is refused: its 4 layers exceed the limit of 3"],
    )
    .await;

    let mut missing = Image::new(&[(whole.clone(), plain.clone())]);
    missing.diff_ids.push("a".repeat(64));
    missing.seal();
    refused(
        &world,
        &missing,
        expect!["image bad is refused: its manifest has 1 layers, its config 2"],
    )
    .await;

    let junk = b"this is no tar".to_vec();
    refused(
        &world,
        &Image::new(&[(junk.clone(), junk)]),
        expect!["image bad is refused: layer 1: the tar is truncated within a header"],
    )
    .await;
}

#[tokio::test]
async fn a_file_that_is_no_archive_is_refused_as_such() {
    let world = World::new();
    let mut out = String::new();
    for (name, bytes) in [
        ("empty.tar", tar(&[])),
        ("text.tar", b"hello".to_vec()),
        ("broken.tar.gz", gzip(b"hello")[..12].to_vec()),
        ("json.tar", tar(&[("index.json", b"{")])),
        ("none.tar", tar(&[("index.json", br#"{"schemaVersion":2,"manifests":[]}"#)])),
        ("arm.tar", tar(&[("index.json", br#"{"manifests":[{"digest":"sha256:0","size":1,"platform":{"os":"linux","architecture":"arm64"}}]}"#)])),
        ("escape.tar", tar(&[("manifest.json", br#"[{"Config":"../../etc/passwd","Layers":[]}]"#)])),
        ("digest.tar", tar(&[("index.json", br#"{"manifests":[{"digest":"sha256:../../x","size":1}]}"#)])),
    ] {
        let path = world.write(name, &bytes);
        let error = world.import(&path, None).await.unwrap_err();
        out += &format!("{}\n", rt::chain(&error).replace(path.parent().unwrap().as_str(), "DIR"));
    }
    let gone = world.path("gone");
    out += &rt::chain(&world.import(&gone, None).await.unwrap_err()).replace(gone.as_str(), "GONE");
    expect![[r#"
        image empty.tar is refused: it is neither an OCI layout (no index.json) nor from docker save (no manifest.json)
        image text.tar is refused: the tar is truncated within a header
        image broken.tar.gz is refused: compressed data is damaged: incomplete deflate stream
        image json.tar is refused: its manifest does not parse: EOF while parsing an object at line 1 column 1
        image none.tar is refused: it holds no image for linux/amd64
        image arm.tar is refused: it is not for linux/amd64, only for linux/arm64
        image escape.tar is refused: it has no file ../../etc/passwd
        image digest.tar is refused: digest "sha256:../../x" is not of the form sha256:<64 hex digits>
        open image archive gone: No such file or directory (os error 2)"#]].assert_eq(&out);
}

#[tokio::test]
async fn a_missing_tool_is_named_with_its_package() {
    let world = World::with(|config| config.sqfstar = "/nonexistent/sqfstar".into());
    let path = world.layout("l", &simple().layout(Some("app:1")));
    let error = world.import(&path, None).await.unwrap_err();
    let text = rt::chain(&error);
    assert!(text.contains("install the package squashfs-tools"), "{text}");
}

/// Whether this process may create device nodes and change owners. A test that
/// cannot is skipped; in CI it fails.
fn may_unpack_devices() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("owners and devices of an unpacked image need root", Lacks::Required);
    }
    root
}

/// All that a layer can hold, through `sqfstar`, and back by `unsquashfs`.
#[tokio::test]
async fn content_and_metadata_survive_the_import() {
    let script = r##"
import tarfile, io, sys
t = tarfile.open(sys.argv[1], 'w', format=tarfile.PAX_FORMAT)
def add(name, kind, data=None, **k):
    i = tarfile.TarInfo(name); i.type = kind; i.mtime = 1000000000; i.mode = 0o755
    i.pax_headers = k.pop('pax', {})
    for a, b in k.items(): setattr(i, a, b)
    if data is not None: i.size = len(data)
    t.addfile(i, io.BytesIO(data) if data is not None else None)
add('./', tarfile.DIRTYPE, mode=0o1751, uid=7, gid=8)
add('bin', tarfile.DIRTYPE, mode=0o700, uid=70000, gid=4294967294)
add('bin/su', tarfile.REGTYPE, b'#!', mode=0o4755, uid=7, gid=8, pax={'SCHILY.xattr.user.k': 'v\nw'})
add('bin/z', tarfile.LNKTYPE, linkname='bin/su')
add('bin/a', tarfile.LNKTYPE, linkname='bin/su')
add('link', tarfile.SYMTYPE, linkname='bin/../' + 'x' * 150)
add('linklink', tarfile.LNKTYPE, linkname='link')
add('null', tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
add('disk', tarfile.BLKTYPE, devmajor=259, devminor=70000, mode=0o660)
add('pipe', tarfile.FIFOTYPE)
add('d/' * 5 + 'n' * 200 + '\n \u00e9', tarfile.REGTYPE, b'deep')
add('big', tarfile.REGTYPE, bytes(range(256)) * 1024, mode=0o600, mtime=0)
add('zeros', tarfile.REGTYPE, bytes(300000))
add('empty', tarfile.REGTYPE, b'')
t.close()
"##;
    let world = World::new();
    let file = world.path("layer.tar");
    let made = Command::new("python3").args(["-c", script, file.as_str()]).status().unwrap();
    assert!(made.success());
    let tar = std::fs::read(&file).unwrap();
    let image = Image::new(&[(gzip(&tar), tar)]);
    let path = world.layout("l", &image.layout(Some("all:1")));
    world.import(&path, None).await.unwrap();
    let root = world.images.ensure("all:1", &image.digest(), quiet()).await.unwrap().path;
    let listing = Command::new("unsquashfs").args(["-lln", root.as_str()]).output().unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    expect![[r#"
        drwxr-x--t 7/8                     136 2001-09-09 01:46 squashfs-root
        -rw------- 0/0                  262144 1970-01-01 00:00 squashfs-root/big
        drwx------ 70000/4294967294         43 2001-09-09 01:46 squashfs-root/bin
        -rwsr-xr-x 7/8                       2 2001-09-09 01:46 squashfs-root/bin/a
        -rwsr-xr-x 7/8                       2 2001-09-09 01:46 squashfs-root/bin/su
        -rwsr-xr-x 7/8                       2 2001-09-09 01:46 squashfs-root/bin/z
        drwxr-xr-x 0/0                      24 1970-01-01 00:00 squashfs-root/d
        drwxr-xr-x 0/0                      24 1970-01-01 00:00 squashfs-root/d/d
        drwxr-xr-x 0/0                      24 1970-01-01 00:00 squashfs-root/d/d/d
        drwxr-xr-x 0/0                      24 1970-01-01 00:00 squashfs-root/d/d/d/d
        drwxr-xr-x 0/0                     227 1970-01-01 00:00 squashfs-root/d/d/d/d/d
        -rwxr-xr-x 0/0                       4 2001-09-09 01:46 squashfs-root/d/d/d/d/d/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn
         é
        brw-rw---- 0/0                 1118467,112 2001-09-09 01:46 squashfs-root/disk
        -rwxr-xr-x 0/0                       0 2001-09-09 01:46 squashfs-root/empty
        lrwxrwxrwx 0/0                     157 2001-09-09 01:46 squashfs-root/link -> bin/../xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        lrwxrwxrwx 0/0                     157 2001-09-09 01:46 squashfs-root/linklink -> bin/../xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        crw-rw-rw- 0/0                   1,  3 2001-09-09 01:46 squashfs-root/null
        prwxr-xr-x 0/0                       0 2001-09-09 01:46 squashfs-root/pipe
        -rwxr-xr-x 0/0                  300000 2001-09-09 01:46 squashfs-root/zeros
    "#]].assert_eq(&listing);
    // The same image gives the same bytes in another store.
    let twin = World::new();
    let path = twin.layout("l", &image.layout(Some("all:1")));
    twin.import(&path, None).await.unwrap();
    let other = twin.images.ensure("all:1", &image.digest(), quiet()).await.unwrap().path;
    assert_eq!(sha(&std::fs::read(&root).unwrap()), sha(&std::fs::read(&other).unwrap()));
    if !may_unpack_devices() {
        return;
    }
    let out = world.path("out");
    let command = Command::new("unsquashfs")
        .args(["-q", "-n", "-d", out.as_str(), root.as_str()])
        .output()
        .unwrap();
    assert!(command.status.success(), "{command:?}");
    let mut value = [0; 16];
    let n = rustix::fs::getxattr(out.join("bin/su").as_std_path(), "user.k", &mut value);
    assert_eq!(n.map(|n| value[..n].to_vec()), Ok(b"v\nw".to_vec()));
    let inode = |name: &str| std::fs::symlink_metadata(out.join(name)).unwrap().ino();
    // The listing shows large numbers wrongly.
    let disk = std::fs::symlink_metadata(out.join("disk")).unwrap().rdev();
    assert_eq!((rustix::fs::major(disk), rustix::fs::minor(disk)), (259, 70_000));
    assert_eq!((inode("bin/su"), inode("bin/su")), (inode("bin/a"), inode("bin/z")));
    assert_eq!(inode("link"), inode("linklink"));
    assert_eq!(
        std::fs::read(out.join("big")).unwrap(),
        (0..=255).collect::<Vec<u8>>().repeat(1024)
    );
    assert_eq!(std::fs::read(out.join("zeros")).unwrap(), vec![0; 300_000]);
}

/// A layout of the blobs, whose index lists the descriptors.
fn layout_of(image: &Image, listed: &[serde_json::Value]) -> Vec<(String, Vec<u8>)> {
    let index = serde_json::json!({"schemaVersion": 2, "manifests": listed}).to_string();
    let blobs =
        image.blobs.iter().map(|(digest, data)| (format!("blobs/sha256/{digest}"), data.clone()));
    [("index.json".to_owned(), index.into_bytes())].into_iter().chain(blobs).collect()
}

fn descriptor(image: &Image, digest: &str) -> serde_json::Value {
    serde_json::json!({"digest": format!("sha256:{digest}"), "size": image.blobs[digest].len()})
}

/// Adds an index of the descriptors as a blob; returns its descriptor.
fn nested(image: &mut Image, listed: &[serde_json::Value]) -> serde_json::Value {
    let index = serde_json::json!({"schemaVersion": 2, "manifests": listed}).to_string();
    let digest = image.add(index.as_bytes());
    descriptor(image, &digest)
}

/// Adds a manifest that is no image: a bill of materials, and a signature as
/// cosign writes it, with the config of an image. Returns their descriptors.
fn artifacts(image: &mut Image) -> [serde_json::Value; 2] {
    let mut add = |config: &str, config_type: &str, kind: &str, more: &str| {
        let (config, data) = (image.add(config.as_bytes()), image.add(kind.as_bytes()));
        let manifest = format!(
            r#"{{"schemaVersion": 2, {more} "config": {{"mediaType": "{config_type}", "digest": "sha256:{config}", "size": 2}},
                "layers": [{{"mediaType": "{kind}", "digest": "sha256:{data}", "size": 2}}]}}"#
        );
        let digest = image.add(manifest.as_bytes());
        descriptor(image, &digest)
    };
    [
        add(
            "{}",
            "application/vnd.oci.empty.v1+json",
            "application/spdx+json",
            r#""artifactType": "application/spdx+json","#,
        ),
        add(
            r#"{"rootfs": {}}"#,
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.dev.cosign.simplesigning.v1+json",
            "",
        ),
    ]
}

/// A listener of progress, and the names of the steps that it has received.
fn recorded() -> (Progress, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let steps = Arc::clone(&seen);
    let listener = move |step: &str, _, _| steps.lock().unwrap().push(step.to_owned());
    (Arc::new(listener), seen)
}

#[tokio::test]
async fn artifacts_beside_an_image_are_left_out_and_named() {
    let mut image = simple();
    let [bill, signature] = artifacts(&mut image);
    let mut ours = descriptor(&image, &image.manifest);
    ours["platform"] = serde_json::json!({"os": "linux", "architecture": "amd64"});
    let inner = nested(&mut image, &[bill.clone(), ours.clone(), signature.clone()]);
    for (name, listed) in
        [("beside", vec![bill.clone(), ours, signature.clone()]), ("within", vec![inner])]
    {
        let world = World::new();
        let path = world.layout(name, &layout_of(&image, &listed));
        let (progress, seen) = recorded();
        let archive = ImageArchive { path: &path, name: Some("app:1"), file_name: None };
        let summary = world.images.import(archive, progress).await.unwrap();
        assert_eq!(summary.digest, image.digest());
        check_root(&world, "app:1", &image.digest()).await;
        let seen = seen.lock().unwrap();
        let left_out = seen.iter().filter(|step| step.starts_with("left out ")).count();
        assert_eq!(left_out, 2, "{name}: {seen:?}");
    }

    let world = World::new();
    let mut hostile = bill.clone();
    let path = world.layout("none", &layout_of(&image, &[bill, signature]));
    let error = world.import(&path, None).await.unwrap_err();
    expect!["image none is refused: it holds no image for linux/amd64, only artifacts: application/spdx+json, application/vnd.dev.cosign.simplesigning.v1+json"]
        .assert_eq(&error.to_string());
    hostile["artifactType"] = "a/b".into();
    let path = world.layout("many", &layout_of(&image, &vec![hostile.clone(); 1000]));
    let error = world.import(&path, None).await.unwrap_err().to_string();
    assert!(error.matches("a/b").count() == 32 && error.ends_with(", more artifacts"), "{error}");
    hostile["artifactType"] = "application/x\u{1b}[2J".into();
    let path = world.layout("hostile", &layout_of(&image, &[hostile]));
    let error = world.import(&path, None).await.unwrap_err();
    expect!["image hostile is refused: it holds no image for linux/amd64, only artifacts: application/x[2J"]
        .assert_eq(&error.to_string());
}

#[tokio::test]
async fn of_several_variants_the_highest_that_guests_run_is_imported() {
    let mut all = Image::default();
    let mut listed = Vec::new();
    for variant in ["v4", "v3", "v2", "v1"] {
        let tar = tar(&[("variant", variant.as_bytes())]);
        let image = Image::new(&[(gzip(&tar), tar)]);
        all.blobs.extend(image.blobs.clone());
        let mut ours = descriptor(&image, &image.manifest);
        ours["platform"] = serde_json::json!({"os": "linux", "architecture": "amd64"});
        if variant != "v1" {
            ours["platform"]["variant"] = variant.into();
        }
        listed.push(ours);
    }
    let inner = nested(&mut all, &listed);
    for (guest, variant) in
        [(oci::CpuLevel::V1, "v1"), (oci::CpuLevel::V2, "v2"), (oci::CpuLevel::V4, "v4")]
    {
        for listed in [listed.clone(), vec![inner.clone()]] {
            let world = World::with(|config| config.guest_cpu = guest);
            let path = world.layout("variants", &layout_of(&all, &listed));
            let summary = world.import(&path, None).await.unwrap();
            assert_eq!(summary.references, ["variants:latest"]);
            let root =
                world.images.ensure("variants", &summary.digest, quiet()).await.unwrap().path;
            assert_eq!(cat(&root, "variant"), variant);
        }
    }
}

/// The image with a part of its config replaced.
fn with_config(mut image: Image, part: &str, replacement: &str) -> Image {
    let config = String::from_utf8(image.blobs[&image.config].clone()).unwrap();
    let config = config.replace(part, replacement);
    let (old, new) = (image.config.clone(), image.add(config.as_bytes()));
    let manifest = String::from_utf8(image.blobs[&image.manifest].clone()).unwrap();
    let size = |len: usize| format!(r#""size":{len}"#);
    let manifest =
        manifest.replace(&old, &new).replace(&size(image.blobs[&old].len()), &size(config.len()));
    image.manifest = image.add(manifest.as_bytes());
    image
}

#[tokio::test]
async fn labels_beyond_the_limits_are_left_out_and_counted() {
    let world = World::new();
    let labels: Vec<_> = (0..100).map(|n| format!(r#""l{n:03}":"v""#)).collect();
    let labels = format!(r#""Labels":{{{}}}"#, labels.join(","));
    let image = with_config(simple(), r#""Labels":{"k":"v"}"#, &labels);
    let path = world.layout("l", &image.layout(Some("app:1")));
    let (progress, seen) = recorded();
    let archive = ImageArchive { path: &path, name: Some("app:1"), file_name: None };
    let digest = world.images.import(archive, progress).await.unwrap().digest;
    let seen = seen.lock().unwrap().clone();
    let counted = seen.iter().filter(|step| *step == "left out 36 labels, too many or too long");
    assert_eq!(counted.count(), 1, "{seen:?}");
    let resolved = world.images.resolve("app:1").await.unwrap();
    let root = world.images.ensure("app:1", &digest, quiet()).await.unwrap();
    assert_eq!((resolved.labels.len(), root.config.labels.len()), (64, 64));
}

#[tokio::test]
async fn a_user_that_no_process_can_have_is_refused_at_the_import() {
    let world = World::new();
    let image = with_config(simple(), r#""User":"web""#, r#""User":"4294967295""#);
    refused(
        &world,
        &image,
        expect!["image bad is refused: its USER has the id 4294967295, and ids end at 4294967294"],
    )
    .await;
}

#[tokio::test]
async fn a_user_that_no_process_can_have_is_refused_in_an_image_of_an_older_store() {
    let (world, image) = (World::new(), simple());
    let path = world.layout("l", &image.layout(Some("app:1")));
    world.import(&path, None).await.unwrap();
    let World { dir, images, .. } = world;
    drop(images);
    let store = camino::Utf8PathBuf::from_path_buf(dir.path().join("oci")).unwrap();
    let record = store.join(format!("images/{}.json", image.manifest));
    let text = std::fs::read_to_string(&record).unwrap();
    let changed = text.replace(r#""user": "web""#, r#""user": "0:4294967295""#);
    assert_ne!(text, changed);
    std::fs::write(&record, changed).unwrap();
    let images = oci::OciImages::open(oci::OciConfig::new(store), rt::Clock::manual(0)).unwrap();
    let error = images.ensure("app:1", &image.digest(), quiet()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "image app:1 is refused: its USER has the id 4294967295, and ids end at 4294967294"
    );
}

#[tokio::test]
async fn labels_are_known_before_the_image_is_built() {
    let (world, image) = (World::new(), simple());
    let path = world.layout("l", &image.layout(Some("app:1")));
    world.import(&path, None).await.unwrap();
    for reference in ["app:1", &image.digest(), &format!("app@{}", image.digest())] {
        let found = world.images.resolve(reference).await.unwrap();
        assert_eq!(found.labels, [("k".into(), "v".into())].into(), "{reference}");
    }
}

#[tokio::test]
async fn an_image_in_use_is_not_removed_by_its_digest() {
    let (world, image) = (World::new(), simple());
    let path = world.layout("l", &image.layout(Some("app:1")));
    world.import(&path, None).await.unwrap();
    let (digest, keep) = (image.digest(), BTreeSet::from([image.digest()]));
    for reference in [&*digest, &image.manifest[..12], &format!("app@{digest}")] {
        let error = world.images.remove(reference, &keep).await.unwrap_err();
        assert!(matches!(error, ImageError::InUse { .. }), "{error:?}");
        let text = error.to_string();
        assert_eq!(
            text,
            format!(
                "image {reference:?} is in use: machines use it: destroy them or update them to another image first"
            )
        );
        assert_eq!(world.images.list().await.unwrap()[0].references, ["app:1"]);
    }
    // Its name may go and come back for another image; the machine's digest stays.
    assert!(world.images.remove("app:1", &keep).await.unwrap());
    let tar = tar(&[("app", b"new")]);
    let other = Image::new(&[(gzip(&tar), tar)]);
    let path = world.layout("other", &other.layout(Some("app:1")));
    world.import(&path, None).await.unwrap();
    let root = world.images.ensure("app:1", &digest, quiet()).await.unwrap();
    assert_eq!(cat(&root.path, "app"), "two");
    // Once nothing uses it, it is removed with its data.
    world.clock.advance(Duration::from_secs(3600));
    assert!(world.images.remove(&digest, &BTreeSet::new()).await.unwrap());
    assert!(!root.path.exists());
}

#[tokio::test]
async fn a_sparse_file_has_its_holes_in_the_root_image() {
    let sparse = |size: u64| {
        let mut builder = ::tar::Builder::new(Vec::new());
        let (map, size) = (format!("499712,512,{size},0"), size.to_string());
        let records: [(&str, &[u8]); 3] = [
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.name", b"s"),
            ("GNU.sparse.map", map.as_bytes()),
        ];
        builder.append_pax_extensions(records).unwrap();
        let mut data = [0; 512];
        data[500_000 - 499_712] = b'x';
        let mut header = ::tar::Header::new_ustar();
        header.set_size(512);
        header.set_mode(0o644);
        builder.append_data(&mut header, "GNUSparseFile.1/s", &data[..]).unwrap();
        let tar = builder.into_inner().unwrap();
        Image::new(&[(gzip(&tar), tar)])
    };
    let world = World::with(|config| config.limits.unpacked_bytes = 1 << 20);
    let path = world.layout("sparse", &sparse(1 << 20).layout(Some("sparse:1")));
    let digest = world.import(&path, None).await.unwrap().digest;
    let root = world.images.ensure("sparse:1", &digest, quiet()).await.unwrap().path;
    assert_eq!(
        sha(cat(&root, "s").as_bytes()),
        "a41f621d5dd80dd874b3b3ebbbac2ab52b7af2eff44e95edf3057b50e043dd6c"
    );

    let world = World::with(|config| config.limits.unpacked_bytes = 1 << 20);
    refused(
        &world,
        &sparse(1 << 30),
        expect![[r#"image bad is refused: layer 1: entry "s": the holes of its sparse files exceed the limit of 1048576 bytes"#]],
    )
    .await;
}

#[tokio::test]
async fn a_full_disk_is_refused_with_its_numbers_before_anything_is_written() {
    let world = World::with(|config| config.disk_reserve_bytes = 1 << 60);
    let path = world.layout("l", &simple().layout(Some("app:1")));
    let text = world.import(&path, None).await.unwrap_err().to_string();
    assert!(text.starts_with("import an image: the disk of the image store has "), "{text}");
    assert!(text.contains(" and 1099511627776 MiB are kept in reserve; "), "{text}");
    assert!(world.files("tmp").is_empty() && world.files("roots").is_empty());
    // A compressed archive is not unpacked either.
    let path = world.write("a.tar.gz", &gzip(&tar_of(&simple().layout(Some("app:1")))));
    let text = world.import(&path, None).await.unwrap_err().to_string();
    assert!(text.starts_with("unpack a layer: the disk of the image store has "), "{text}");
}

#[tokio::test]
async fn imports_at_once_are_bounded() {
    let world = World::with(|config| (config.parallel_imports, config.queued_jobs) = (1, 1));
    let path = world.layout("l", &simple().layout(Some("app:1")));
    let outcomes = futures_util::future::join_all((0..4).map(|_| world.import(&path, None))).await;
    let mut refused = 0;
    for error in outcomes.into_iter().filter_map(Result::err) {
        refused += 1;
        assert_eq!(
            error.to_string(),
            "too many imports of images: 1 run and 1 wait already; try again later"
        );
    }
    assert_eq!(refused, 2);
    assert_eq!(world.images.list().await.unwrap().len(), 1);
}

/// A program in place of `sqfstar` that makes its image and a file `begun`, and ends when
/// something is written to the FIFO `go`.
fn waiting_sqfstar(dir: &camino::Utf8Path) -> camino::Utf8PathBuf {
    let script = format!(
        "#!/bin/sh\nfor out; do :; done\ntouch \"$out\" {dir}/begun\nread go < {dir}/go\nexit 1\n"
    );
    // Written by another process: a script that this one holds open for writing,
    // in any thread, cannot be run.
    let make =
        format!("mkfifo {dir}/go && printf '%s' \"$0\" > {dir}/sqfstar && chmod 755 {dir}/sqfstar");
    let made = Command::new("sh").args(["-c", &make, &script]).status().unwrap();
    assert!(made.success());
    dir.join("sqfstar")
}

#[tokio::test]
async fn an_import_that_its_client_leaves_keeps_its_place_until_its_thread_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let dir = camino::Utf8Path::from_path(dir.path()).unwrap();
    let world = World::with(|config| {
        (config.parallel_imports, config.queued_jobs) = (1, 0);
        config.sqfstar = waiting_sqfstar(dir);
    });
    let path = world.layout("l", &simple().layout(Some("app:1")));
    let begun = async {
        while !dir.join("begun").exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = world.import(&path, None) => panic!("{ended:?}"),
        begun = tokio::time::timeout(Duration::from_secs(60), begun) => begun.unwrap(),
    }
    // The client has gone, and `sqfstar` still runs.
    let none = world.write("none.tar", &tar(&[]));
    let refused = world.import(&none, None).await.unwrap_err();
    assert!(refused.to_string().starts_with("too many imports of images: 1 run"), "{refused}");
    let files = || world.files("tmp").into_iter().filter(|name| name.ends_with(".squashfs"));
    world.images.collect(&BTreeSet::new()).await.unwrap();
    assert_eq!(files().count(), 1, "garbage collection leaves its files alone");

    std::fs::write(dir.join("go"), "go\n").unwrap();
    let free = async {
        while !matches!(world.import(&none, None).await, Err(ImageError::Refused { .. })) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), free).await.unwrap();
    assert_eq!(files().count(), 0);
}
