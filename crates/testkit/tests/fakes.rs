//! The fakes pass the contracts that the real ones pass.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use camino::Utf8PathBuf;
use std::sync::Arc;
use testkit::{CrashPoints, FakeHypervisor, FakeImages, FakeNetwork};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::guest::codec::{Decoder, encode};
use wire::guest::{ToGuest, ToHost, VERSION};
use worker::ports::{AgentIo, BootSpec, PortError, Settle, Shape};

fn dir() -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(dir.path().into()).unwrap();
    (dir, path)
}

#[tokio::test]
async fn fake_vms_pass_the_contract_of_vms() {
    let (_dir, path) = dir();
    let hypervisor = FakeHypervisor::new(CrashPoints::default());
    let disk = path.join("disk");
    std::fs::write(&disk, "").unwrap();
    let spec = |machine, boot| BootSpec {
        machine,
        boot,
        vcpus: 1,
        memory_mib: 128,
        cpu_weight: 63,
        root: disk.clone(),
        scratch: disk.clone(),
        nic: None,
        kernel_args: Vec::new(),
        snapshot: None,
        cold: None,
    };
    testkit::hypervisor_contract(|| hypervisor.clone(), spec).await;
}

#[tokio::test]
async fn fake_vms_pass_the_contract_of_snapshots_and_templates() {
    let (_dir, path) = dir();
    let hypervisor = FakeHypervisor::new(CrashPoints::default());
    let disk = path.join("disk");
    std::fs::write(&disk, "").unwrap();
    let spec = |machine, boot| BootSpec {
        machine,
        boot,
        vcpus: 1,
        memory_mib: 128,
        cpu_weight: 63,
        root: disk.clone(),
        scratch: disk.clone(),
        nic: None,
        kernel_args: Vec::new(),
        snapshot: None,
        cold: None,
    };
    testkit::hypervisor_snapshot_contract(|| hypervisor.clone(), spec, &path).await;
    assert!(!hypervisor.torn());
    let shape = Shape { vcpus: 1, memory_mib: 128 };
    let settle: Settle = Arc::new(|io| Box::pin(settle(io)));
    testkit::hypervisor_template_contract(|| hypervisor.clone(), shape, spec, settle).await;
}

/// As a worker does it, in short.
async fn settle(mut io: Box<dyn AgentIo>) -> Result<(), PortError> {
    let hello = encode(&ToGuest::Hello { version: VERSION, session: 7 });
    let failed = |err| PortError::new("speak to a guest", err);
    io.write_all(&hello).await.map_err(failed)?;
    io.write_all(&encode(&ToGuest::Settle)).await.map_err(failed)?;
    let (mut decoder, mut buffer, mut settled) = (Decoder::default(), [0; 1024], false);
    while !settled {
        let read = io.read(&mut buffer).await.map_err(failed)?;
        decoder.feed(&buffer[..read], |message: ToHost| settled |= message == ToHost::Settled);
    }
    Ok(())
}

#[tokio::test]
async fn the_fake_network_passes_the_contract_of_networks() {
    testkit::network_contract(&FakeNetwork::new(CrashPoints::default())).await;
}

#[tokio::test]
async fn fake_images_pass_the_contract_of_images() {
    let (_dir, path) = dir();
    let archive = path.join("archive.tar");
    std::fs::write(&archive, "layers").unwrap();
    let images = FakeImages::new(&path.join("images"), CrashPoints::default());
    testkit::images_contract(&images, &archive).await;
}
