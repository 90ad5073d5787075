//! Builds the guests' pid 1 as a static binary and hands its path to the
//! program, which carries it along: one binary is all there is to install.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    println!("cargo:rerun-if-env-changed=UPDRAFT_INIT_BIN");
    for path in
        ["../updraft-init/src", "../updraft-init/Cargo.toml", "../guest-protocol/src", "build.rs"]
    {
        println!("cargo:rerun-if-changed={path}");
    }
    // A packager may bring a binary of their own.
    let init = env::var_os("UPDRAFT_INIT_BIN").map_or_else(build, PathBuf::from);
    println!("cargo:rustc-env=UPDRAFT_INIT={}", init.display());
}

/// A target directory of its own: the outer cargo holds the lock of the other.
fn build() -> PathBuf {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let target = out.join("guest");
    let cargo = env::var_os("CARGO").expect("cargo sets CARGO");
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--locked", "-p", "updraft-init", "--profile", "guest"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static")
        // Lints of the outer build (clippy) must not reach into this one.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .status()
        .expect("start cargo for updraft-init");
    assert!(status.success(), "updraft-init does not build");
    target.join(TARGET).join("guest").join("updraft-init")
}
