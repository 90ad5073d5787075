//! The files that guests are booted from: kernel, initramfs with our init, root image.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use testkit::skip::{Lacks, skip};

const EARLY: [&str; 4] = ["virtio_ring", "virtio", "virtio_mmio", "virtio_console"];
/// With what they depend on, in the order of loading.
const LATE: [&str; 22] = [
    "virtio_blk",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio-rng",
    "squashfs",
    "overlay",
    "binfmt_misc",
    "fuse",
    "tun",
    "llc",
    "stp",
    "bridge",
    "libchacha",
    "libcurve25519-generic",
    "curve25519-x86_64",
    "udp_tunnel",
    "ip6_udp_tunnel",
    "poly1305-x86_64",
    "chacha-x86_64",
    "libchacha20poly1305",
    "wireguard",
];

/// The files that all guests are booted from.
pub(crate) struct Assets {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) root: PathBuf,
}

/// Builds the assets once; `None`, and the test is skipped, if this machine cannot run
/// guests.
pub(crate) fn assets() -> Option<&'static Assets> {
    static ASSETS: OnceLock<Result<Assets, String>> = OnceLock::new();
    match ASSETS.get_or_init(build_assets) {
        Ok(assets) => Some(assets),
        Err(why) => {
            skip(why, Lacks::Required);
            None
        }
    }
}

fn build_assets() -> Result<Assets, String> {
    for tool in ["qemu-system-x86_64", "mksquashfs", "mkfs.ext4", "busybox"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
        if !found.is_ok_and(|o| o.status.success()) {
            return Err(format!("{tool} is not installed"));
        }
    }
    let kernel = fs::read_dir("/boot")
        .map_err(|e| e.to_string())?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.to_string_lossy().contains("vmlinuz-"))
        .max_by_key(|p| p.to_string_lossy().contains("cloud"))
        .ok_or("there is no kernel in /boot")?;
    let release = kernel.to_string_lossy().split_once("vmlinuz-").expect("filtered").1.to_owned();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-assets");
    fs::create_dir_all(&dir).unwrap();
    let initramfs = dir.join("initramfs");
    write_initramfs(&initramfs, &init_binary(), &release)?;
    let root = dir.join("root.squashfs");
    write_root(&dir.join("root"), &root);
    Ok(Assets { kernel, initramfs, root })
}

fn init_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("UPDRAFT_INIT_BIN") {
        return path.into();
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "updraft-init", "--profile", "guest"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--target-dir", "target/guest"])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .current_dir(&workspace)
        .status()
        .unwrap();
    assert!(built.success(), "the static binary builds");
    workspace.join("target/guest/x86_64-unknown-linux-gnu/guest/updraft-init")
}

fn write_initramfs(path: &Path, init: &Path, release: &str) -> Result<(), String> {
    let modules = Command::new("find").arg(format!("/lib/modules/{release}")).output().unwrap();
    let modules = String::from_utf8(modules.stdout).unwrap();
    let mut out = File::create(path).unwrap();
    let mut add = |name: &str, mode: u32, content: &[u8]| {
        let builder = cpio::newc::Builder::new(name).mode(mode);
        let mut writer = builder.write(&mut out, u32::try_from(content.len()).unwrap());
        writer.write_all(content).unwrap();
        writer.finish().unwrap();
    };
    for name in ["proc", "sys", "dev", "modules"] {
        add(name, 0o040_755, b"");
    }
    add("init", 0o100_755, &fs::read(init).unwrap());
    for name in EARLY.iter().chain(&LATE) {
        let file = format!("/{name}.ko");
        let found = modules.lines().find(|line| line.ends_with(&file));
        let found = found.ok_or(format!("kernel {release} has no plain module {name}.ko"))?;
        add(&format!("modules{file}"), 0o100_644, &fs::read(found).unwrap());
    }
    let order = format!("{}.ko\n--\n{}.ko\n", EARLY.join(".ko\n"), LATE.join(".ko\n"));
    add("modules/order", 0o100_644, order.as_bytes());
    cpio::newc::trailer(&mut out).unwrap();
    Ok(())
}

/// Only root can give files of an image to others.
pub(crate) fn owners_are_kept() -> bool {
    rustix::process::geteuid().is_root()
}

fn write_root(dir: &Path, image: &Path) {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir.join("bin")).unwrap();
    fs::create_dir_all(dir.join("etc")).unwrap();
    let busybox = Command::new("sh").args(["-c", "command -v busybox"]).output().unwrap();
    let busybox = String::from_utf8(busybox.stdout).unwrap();
    fs::copy(busybox.trim(), dir.join("bin/busybox")).unwrap();
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/client.rs");
    let built = Command::new("rustc")
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o"])
        .args([&dir.join("bin/client"), &client])
        .status();
    assert!(built.unwrap().success(), "the client builds");
    let applets = Command::new(busybox.trim()).arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|a| *a != "busybox") {
        std::os::unix::fs::symlink("busybox", dir.join("bin").join(applet)).unwrap();
    }
    let file = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n");
    file("etc/group", "root:x:0:\napp:x:1000:\nextra:x:2000:app\n");
    file("etc/plain", "not a program\n");
    file("etc/machine-id", "11111111111111111111111111111111\n");
    std::os::unix::fs::symlink("/run/nowhere/resolv.conf", dir.join("etc/resolv.conf")).unwrap();
    fs::create_dir_all(dir.join("run/app")).unwrap();
    file("run/app/keep", "kept\n");
    fs::create_dir_all(dir.join("srv/node_modules/.bin")).unwrap();
    file("srv/node_modules/.bin/tool", "#!/bin/sh\necho the tool runs in $PWD\n");
    let mode = |name: &str, mode| {
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("srv/node_modules/.bin/tool", 0o755);
    mode("run/app", 0o750);
    let _ = fs::remove_file(image);
    let mut make = Command::new("mksquashfs");
    make.args([dir, image]).arg("-quiet");
    if owners_are_kept() {
        std::os::unix::fs::chown(dir.join("run/app"), Some(1000), Some(1000)).unwrap();
    } else {
        make.arg("-all-root");
    }
    let made = make.output();
    assert!(made.unwrap().status.success());
}
