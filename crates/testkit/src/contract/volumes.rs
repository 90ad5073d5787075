//! The part of the contract of `host_api::Host` that is about volumes.

use super::calls::{context, create, gone, state};
use host_api::{
    ChangeVolume, CreateMachine, Host, HostError, NewVolume, UpdateMachine, VolumeFilter,
};
use model::id::{AppId, OrgId, VolumeId};
use model::volume::{FileSystem, State};
use wire::machines::Mount;

fn new(number: u128) -> NewVolume {
    NewVolume {
        id: VolumeId::from_random(0xc0_0000 + number),
        app: AppId(7),
        org: OrgId(1),
        name: "data".parse().expect("a name"),
        region: "local".into(),
        size_gb: 1,
        fstype: FileSystem::Ext4,
        snapshot_retention: 5,
        auto_backup_enabled: true,
    }
}

fn mounting(create: CreateMachine, volumes: &[VolumeId]) -> CreateMachine {
    let mount = |id: &VolumeId| Mount {
        volume: Some(id.to_string()),
        path: Some(format!("/{id}")),
        ..Mount::default()
    };
    let mut create = create;
    create.config.mounts = Some(volumes.iter().map(mount).collect());
    create
}

fn is_conflict<T: std::fmt::Debug>(answer: Result<T, HostError>) {
    assert!(matches!(answer, Err(HostError::Conflict(_))), "{answer:?}");
}

/// A volume is made once, changed, extended and destroyed; what is not there is not found.
pub(super) async fn a_volume_lives(host: &dyn Host) {
    let volume = new(1);
    let id = volume.id;
    let not_found = |answer: Result<(), HostError>| {
        assert!(matches!(answer, Err(HostError::NotFound(_))), "{answer:?}");
    };
    not_found(host.volume(context(), id).await.map(drop));
    not_found(host.destroy_volume(context(), id).await);
    not_found(host.extend_volume(context(), id, 2).await.map(drop));
    not_found(host.change_volume(context(), id, ChangeVolume::default()).await.map(drop));
    let made = host.create_volume(context(), volume.clone()).await.expect("made");
    assert_eq!((made.state, made.machine, &made.volume), (State::Created, None, &volume));
    let again = host.create_volume(context(), volume.clone()).await.expect("the same");
    assert_eq!(again.created_ms, made.created_ms);
    let other = NewVolume { name: "other".parse().expect("a name"), ..volume.clone() };
    is_conflict(host.create_volume(context(), other).await);
    let (same, restart) = host.extend_volume(context(), id, 1).await.expect("no change");
    assert_eq!((same.volume.size_gb, restart), (1, false));
    let (larger, restart) = host.extend_volume(context(), id, 2).await.expect("extended");
    assert_eq!((larger.volume.size_gb, restart), (2, false));
    let smaller = host.extend_volume(context(), id, 1).await;
    assert!(matches!(smaller, Err(HostError::Invalid(_))), "{smaller:?}");
    let change = ChangeVolume { snapshot_retention: Some(9), auto_backup_enabled: Some(false) };
    let changed = host.change_volume(context(), id, change).await.expect("changed").volume;
    assert_eq!((changed.snapshot_retention, changed.auto_backup_enabled), (9, false));
    let filter = |app| VolumeFilter { app: Some(AppId(app)), org: None };
    assert_eq!(host.volumes(context(), filter(7)).await.expect("listed").len(), 1);
    assert_eq!(host.volumes(context(), filter(8)).await, Ok(vec![]));
    host.destroy_volume(context(), id).await.expect("destroyed");
    not_found(host.volume(context(), id).await.map(drop));
}

/// A volume has one machine at most, and stays when the machine is destroyed.
pub(super) async fn a_volume_has_one_machine(host: &dyn Host) {
    let ids = [new(2), new(3)].map(|volume| volume.id);
    for number in [2, 3] {
        host.create_volume(context(), new(number)).await.expect("made");
    }
    let machine_of = async |id| host.volume(context(), id).await.expect("it is there").machine;
    let first = mounting(create(host, 41).await, &ids[..1]);
    let machine = first.id;
    host.create(context(), first).await.expect("created");
    assert_eq!(machine_of(ids[0]).await, Some(machine));
    // Whole or not at all.
    let second = mounting(create(host, 42).await, &[ids[1], ids[0]]);
    is_conflict(host.create(context(), second).await);
    assert_eq!(machine_of(ids[1]).await, None);
    is_conflict(host.destroy_volume(context(), ids[0]).await);
    let unknown = mounting(create(host, 43).await, &[VolumeId::from_random(5)]);
    is_conflict(host.create(context(), unknown).await);
    state(host, machine, &["started"]).await;
    let (_, restart) = host.extend_volume(context(), ids[0], 2).await.expect("extended");
    assert!(restart, "its machine runs");
    // A second one is added by an update.
    let both = mounting(create(host, 41).await, &ids);
    let update = UpdateMachine {
        id: machine,
        config: both.config,
        image: both.image,
        container_images: both.container_images,
        skip_launch: false,
        current_version: None,
        cordoned: None,
        skip_secrets: false,
        lease: None,
        labels: None,
    };
    host.update(context(), update).await.expect("updated");
    assert_eq!(machine_of(ids[1]).await, Some(machine));
    state(host, machine, &["started"]).await;
    gone(host, machine).await;
    for id in ids {
        assert_eq!(machine_of(id).await, None);
        host.destroy_volume(context(), id).await.expect("destroyed");
    }
}
