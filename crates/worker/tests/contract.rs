//! The worker keeps the contract of a host, and bounds what it takes in.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use futures_util::StreamExt;
use host_api::{CallContext, HostError, ImageUpload, Images, ImportName};
use model::address::Ipv4Pool;
use model::id::HostId;
use rt::{Clock, Rng, Tasks};
use std::sync::Arc;
use std::time::Duration;
use testkit::World;
use wire::machines::ImageProgress;
use worker::ports::Shape;
use worker::{HostConfig, Worker};

async fn start(world: &World, tasks: &Tasks) -> Worker {
    let config = HostConfig {
        host: HostId(1),
        name: "one".into(),
        region: "here".into(),
        region_codes: Vec::new(),
        region_aliases: Vec::new(),
        data_dir: world.data_dir().into(),
        pool: Ipv4Pool::new([172, 30, 0, 0].into(), 16).unwrap(),
        mtu: 1420,
        memory_mib: 4096,
        overcommit: 1.0,
        cpus: 2,
        nameservers: worker::NameServers::fixed(Vec::new()),
        boot_deadline: Duration::from_secs(20),
        image_deadline: Duration::from_secs(60),
        templates: Vec::new(),
        cpu_baseline: false,
        logs: worker::LogLimits::default(),
        keep_destroyed: Duration::from_secs(24 * 3600),
        discard_unrecorded: false,
    };
    let ports = world.ports(Clock::system(), Rng::seeded(1));
    let mut registry = prometheus_client::registry::Registry::default();
    Worker::start(config, ports, tasks.clone(), &mut registry).await.unwrap()
}

#[tokio::test]
async fn the_worker_keeps_the_contract_of_a_host() {
    let dir = tempfile::tempdir().unwrap();
    let path = camino::Utf8Path::from_path(dir.path()).unwrap();
    let world = World::new(path);
    world.hypervisor.add_template(Shape { vcpus: 1, memory_mib: 256 });
    let tasks = Tasks::new();
    let worker = start(&world, &tasks).await;
    let tar = b"a tar".to_vec();
    testkit::host_api_contract(testkit::Subject { host: Arc::new(worker), tar }).await;
    assert!(tasks.shutdown(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn a_worker_that_stops_keeps_the_contract_of_a_host() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(camino::Utf8Path::from_path(dir.path()).unwrap());
    world.hypervisor.add_template(Shape { vcpus: 1, memory_mib: 256 });
    let tasks = Tasks::new();
    let worker = start(&world, &tasks).await;
    let stop = async { assert!(tasks.shutdown(Duration::from_secs(10)).await) };
    testkit::stopping_host_contract(&worker, stop).await;
}

/// The last message of an import.
async fn import(worker: &Worker, name: ImportName, tar: ImageUpload) -> ImageProgress {
    let context = CallContext::edge(Duration::from_secs(60));
    let steps = worker.import_image(context, name, tar).await.unwrap();
    steps.collect::<Vec<_>>().await.pop().unwrap()
}

#[tokio::test]
async fn an_image_without_a_name_is_called_as_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(camino::Utf8Path::from_path(dir.path()).unwrap());
    let tasks = Tasks::new();
    let worker = start(&world, &tasks).await;
    let name = ImportName { name: None, file_name: Some("web.tar".into()) };
    let end = import(&worker, name, Box::new(&b"a tar"[..])).await;
    let ImageProgress::Done { image } = end else { panic!("{end:?}") };
    assert_eq!(image.references, ["web.tar"]);
    assert!(tasks.shutdown(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn uploads_are_bounded_in_number_and_by_the_free_space() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(camino::Utf8Path::from_path(dir.path()).unwrap());
    let tasks = Tasks::new();
    let worker = start(&world, &tasks).await;
    let context = || CallContext::edge(Duration::from_secs(60));
    let mut under_way = Vec::new();
    let refused = loop {
        let (client, tar) = tokio::io::duplex(16);
        match worker.import_image(context(), ImportName::default(), Box::new(tar)).await {
            Ok(steps) => under_way.push((client, steps)),
            Err(err) => break err,
        }
        assert!(under_way.len() < 100, "uploads are not bounded");
    };
    assert!(matches!(refused, HostError::Busy(_)), "{refused}");
    // The end of one is a place for another.
    let (client, steps) = under_way.pop().unwrap();
    drop(client);
    steps.collect::<Vec<_>>().await;
    world.disks.set_free_space(600 << 20);
    let end = import(&worker, ImportName::default(), Box::new(&b"a tar"[..])).await;
    let ImageProgress::Failed { error } = end else { panic!("{end:?}") };
    assert!(error.error.contains("600 MiB of the host's disk are free"), "{}", error.error);
    let left = std::fs::read_dir(world.data_dir().join("uploads")).unwrap().count();
    assert_eq!(left, under_way.len(), "an upload that was refused is left");
    assert!(tasks.shutdown(Duration::from_secs(10)).await);
}
