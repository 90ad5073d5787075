//! The fakes pass the contracts that the real ones pass.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use camino::{Utf8Path, Utf8PathBuf};
use model::id::{BootId, MachineId};
use testkit::{CrashPoints, FakeHypervisor, FakeImages, FakeNetwork};
use worker::ports::{BootSpec, Shape};

fn dir() -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(dir.path().into()).unwrap();
    (dir, path)
}

#[tokio::test]
async fn the_fake_host_passes_the_contract_of_hosts() {
    let host = testkit::FakeHost::new(model::id::HostId(3), "local");
    let tar = vec![0; 1024];
    testkit::host_api_contract(testkit::Subject { host: std::sync::Arc::new(host), tar }).await;
}

#[tokio::test]
async fn fake_vms_pass_the_contract_of_vms() {
    let (_dir, path) = dir();
    let hypervisor = FakeHypervisor::new(CrashPoints::default());
    let disk = path.join("disk");
    std::fs::write(&disk, "").unwrap();
    let spec = |machine, boot| spec(&disk, machine, boot);
    testkit::hypervisor_contract(|| hypervisor.clone(), spec).await;
}

#[tokio::test]
async fn fake_vms_pass_the_contract_of_snapshots_and_templates() {
    let (_dir, path) = dir();
    let hypervisor = FakeHypervisor::new(CrashPoints::default());
    let disk = path.join("disk");
    std::fs::write(&disk, "").unwrap();
    let spec = |machine, boot| spec(&disk, machine, boot);
    testkit::hypervisor_snapshot_contract(|| hypervisor.clone(), spec, &path).await;
    assert!(!hypervisor.torn());
    let shape = Shape { vcpus: 1, memory_mib: 128 };
    testkit::hypervisor_template_contract(
        || hypervisor.clone(),
        shape,
        spec,
        testkit::quiesce_guest(),
    )
    .await;
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

fn spec(disk: &Utf8Path, machine: MachineId, boot: BootId) -> BootSpec {
    BootSpec {
        machine,
        boot,
        vcpus: 1,
        memory_mib: 128,
        cpu_weight: 63,
        root: disk.into(),
        scratch: disk.into(),
        images: Vec::new(),
        volumes: Vec::new(),
        nic: None,
        kernel_args: Vec::new(),
        snapshot: None,
        cold: None,
    }
}
