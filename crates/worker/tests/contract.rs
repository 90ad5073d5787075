//! The worker keeps the contract of a host.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use model::address::Ipv4Pool;
use model::id::HostId;
use rt::{Clock, Rng, Tasks};
use std::sync::Arc;
use std::time::Duration;
use testkit::World;
use worker::ports::Shape;
use worker::{HostConfig, Worker};

#[tokio::test]
async fn the_worker_keeps_the_contract_of_a_host() {
    let dir = tempfile::tempdir().unwrap();
    let path = camino::Utf8Path::from_path(dir.path()).unwrap();
    let world = World::new(path);
    world.hypervisor.add_template(Shape { vcpus: 1, memory_mib: 256 });
    let config = HostConfig {
        host: HostId(1),
        name: "one".into(),
        region: "here".into(),
        region_aliases: Vec::new(),
        data_dir: world.data_dir().into(),
        pool: Ipv4Pool::new([172, 30, 0, 0].into(), 16).unwrap(),
        mtu: 1420,
        memory_mib: 4096,
        overcommit: 1.0,
        cpus: 2,
        nameservers: Vec::new(),
        boot_deadline: Duration::from_secs(20),
        image_deadline: Duration::from_secs(60),
        templates: Vec::new(),
    };
    let ports = world.ports(Clock::system(), Rng::seeded(1));
    let mut registry = prometheus_client::registry::Registry::default();
    let tasks = Tasks::new();
    let worker = Worker::start(config, ports, tasks.clone(), &mut registry).await.unwrap();
    let tar = b"a tar".to_vec();
    testkit::host_api_contract(testkit::Subject { host: Arc::new(worker), tar }).await;
    assert!(tasks.shutdown(Duration::from_secs(10)).await);
}
