//! Volumes: the daemon is killed at every step of what is done with them, and their disks and
//! machines are in order afterwards.

use crate::crash::Where;
use crate::daemon::Settings;
use crate::lab::{Lab, user};
use host_api::{CreateMachine, HostError, HostVolume, Machines, NewVolume, VolumeFilter, Volumes};
use model::id::{AppId, MachineId, OrgId, VolumeId};
use model::volume::{FileSystem, State};
use std::cell::Cell;
use wire::machines::Mount;

/// Nothing takes more steps; the walk ends when an operation gets through.
const MOST_STEPS: u64 = 100;
const BYTES: u64 = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Create,
    Extend,
    Destroy,
    Attach,
    DestroyMachine,
}

const ALL: [Operation; 5] = [
    Operation::Create,
    Operation::Extend,
    Operation::Destroy,
    Operation::Attach,
    Operation::DestroyMachine,
];

fn new(number: u128) -> NewVolume {
    NewVolume {
        id: VolumeId::from_random(number),
        app: AppId(1),
        org: OrgId(1),
        name: "data".parse().unwrap(),
        region: "here".into(),
        size_gb: 1,
        fstype: FileSystem::Ext4,
        snapshot_retention: 5,
        auto_backup_enabled: true,
    }
}

/// A machine of the volume's app that mounts it.
fn mounting(lab: &mut Lab, name: &str, volume: &NewVolume) -> CreateMachine {
    let mut create = lab.creation(name, &["serve", "8080", "--policy=no"]);
    create.app = volume.app;
    let mount = Mount {
        volume: Some(volume.id.to_string()),
        path: Some("/data".into()),
        ..Mount::default()
    };
    create.config.mounts = Some(vec![mount]);
    create
}

fn volume(lab: &Lab, id: VolumeId) -> Result<HostVolume, HostError> {
    let worker = lab.worker();
    lab.run(async { worker.volume(user(), id).await })
}

fn create_volume(lab: &Lab, volume: NewVolume) -> HostVolume {
    let worker = lab.worker();
    lab.run(async { worker.create_volume(user(), volume).await }).unwrap()
}

fn create_machine(lab: &Lab, create: CreateMachine) -> MachineId {
    let (worker, id) = (lab.worker(), create.id);
    lab.run(async { worker.create(user(), create).await }).unwrap();
    id
}

/// Names in the directory of the volumes.
fn disks(lab: &Lab) -> Vec<String> {
    let entries = lab.world.data_dir().join("volumes").read_dir_utf8().unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into()).collect();
    names.sort();
    names
}

#[test]
fn killed_at_every_step_of_every_operation_on_volumes() {
    for operation in ALL {
        let steps = walk(operation, Where::Points);
        let has_steps = matches!(operation, Operation::Create | Operation::Attach);
        assert!(steps > if has_steps { 2 } else { 0 }, "{operation:?} has steps");
    }
}

#[test]
fn killed_at_every_commit_of_every_operation_on_volumes() {
    for operation in ALL {
        assert!(walk(operation, Where::Commits) > 1, "{operation:?} has commits");
    }
}

/// Crashes at step 1, 2, 3, … until the operation gets through; how many steps it has.
fn walk(operation: Operation, at: Where) -> u64 {
    for step in 1..MOST_STEPS {
        let mut lab = Lab::new(Settings { seed: step, ..Settings::default() });
        let acknowledged = crash(&mut lab, operation, at, step);
        let through = acknowledged.is_none();
        if !through {
            // As a new daemon does.
            lab.world.disks.unbook_all();
            lab.restart();
        }
        check(&mut lab, operation, acknowledged.unwrap_or(true));
        if through {
            return step;
        }
    }
    panic!("{operation:?} does not end");
}

/// Runs the operation until it is done or a crash; whether it had been acknowledged by then.
fn crash(lab: &mut Lab, operation: Operation, at: Where, step: u64) -> Option<bool> {
    let data = new(1);
    let create = mounting(lab, "m1", &data);
    let machine = create.id;
    if operation != Operation::Create {
        create_volume(lab, data.clone());
    }
    if operation == Operation::DestroyMachine {
        create_machine(lab, create.clone());
        lab.wait("m1", "started", 15_000).unwrap();
    }
    let worker = lab.worker();
    let acknowledged = Cell::new(false);
    let place = at.run(lab, step, async {
        match operation {
            Operation::Create => {
                worker.create_volume(user(), data.clone()).await.unwrap();
            }
            Operation::Extend => {
                worker.extend_volume(user(), data.id, 2).await.unwrap();
            }
            Operation::Destroy => worker.destroy_volume(user(), data.id).await.unwrap(),
            Operation::Attach => {
                worker.create(user(), create).await.unwrap();
            }
            Operation::DestroyMachine => {
                worker.destroy(user(), machine, true).await.unwrap();
            }
        }
        acknowledged.set(true);
        let state = match operation {
            Operation::Attach => "started",
            Operation::DestroyMachine => "destroyed",
            _ => return,
        };
        let wait = host_api::WaitFor {
            states: vec![state.into()],
            timeout_ms: 15_000,
            ..host_api::WaitFor::default()
        };
        worker.wait(user(), machine, wait).await.unwrap();
    });
    drop(worker);
    let place = place?;
    // Shown if what follows fails or hangs.
    eprintln!("{operation:?} killed at step {step} ({place})");
    lab.kill();
    Some(acknowledged.get())
}

/// What was acknowledged has happened, each volume has its disk and no other disk is there, and
/// the operation can be done again.
fn check(lab: &mut Lab, operation: Operation, acknowledged: bool) {
    let (data, machine) = (new(1), lab.id("m1"));
    let found = volume(lab, data.id);
    let expected = match &found {
        Ok(found) => {
            assert_eq!(found.state, State::Created);
            vec![format!("{}.raw", data.id)]
        }
        Err(HostError::NotFound(_)) => vec![],
        Err(err) => panic!("{err}"),
    };
    assert_eq!(disks(lab), expected);
    match operation {
        Operation::Create => {
            assert!(found.is_ok() || !acknowledged);
            create_volume(lab, data.clone());
            assert_eq!(disks(lab).len(), 1);
        }
        Operation::Extend => {
            let size = found.unwrap().volume.size_gb;
            assert!(size == 2 || !acknowledged, "{size}");
            let worker = lab.worker();
            let extended = lab.run(async { worker.extend_volume(user(), data.id, 2).await });
            assert_eq!(extended.unwrap().0.volume.size_gb, 2);
            let path = lab.world.data_dir().join(format!("volumes/{}.raw", data.id));
            let booked = lab.world.disks.booked();
            assert_eq!(booked.get(&path), Some(&(2 * BYTES)));
        }
        Operation::Destroy => {
            assert!(found.is_err() || !acknowledged);
            let worker = lab.worker();
            let again = lab.run(async { worker.destroy_volume(user(), data.id).await });
            assert!(matches!(again, Ok(()) | Err(HostError::NotFound(_))), "{again:?}");
            assert_eq!(disks(lab), [""; 0]);
            assert!(lab.world.disks.booked().is_empty());
        }
        Operation::Attach => {
            let attached = found.unwrap().machine;
            let exists = lab.machines().iter().any(|m| m.id == machine.to_string());
            assert_eq!(attached.is_some(), exists);
            assert!(exists || !acknowledged);
            if exists {
                lab.wait("m1", "started", 15_000).unwrap();
            }
        }
        Operation::DestroyMachine => {
            if acknowledged {
                lab.wait("m1", "destroyed", 15_000).unwrap();
                assert_eq!(volume(lab, data.id).unwrap().machine, None);
            } else {
                let state = lab.machine(machine).state;
                assert_eq!(volume(lab, data.id).unwrap().machine.is_none(), state == "destroyed");
            }
        }
    }
}

#[test]
fn a_volume_that_the_database_does_not_name_is_left_alone() {
    let mut lab = Lab::new(Settings::default());
    let data = new(1);
    let disk = lab.world.data_dir().join(format!("volumes/{}.raw", data.id));
    std::fs::write(&disk, "all that is left").unwrap();
    lab.kill();
    lab.restart();
    assert_eq!(std::fs::read_to_string(&disk).unwrap(), "all that is left");
    let worker = lab.worker();
    let refused = lab.run(async { worker.create_volume(user(), data).await });
    assert!(matches!(refused, Err(HostError::Internal(_))), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&disk).unwrap(), "all that is left");
    let none = lab.run(async { worker.volumes(user(), VolumeFilter::default()).await });
    assert_eq!(none, Ok(vec![]));
}

#[test]
fn a_host_without_room_refuses_and_keeps_nothing() {
    let lab = Lab::new(Settings::default());
    lab.world.disks.limit_bookings(3 * BYTES);
    create_volume(&lab, new(1));
    let worker = lab.worker();
    let large = NewVolume { size_gb: 3, ..new(2) };
    let refused = lab.run(async { worker.create_volume(user(), large).await });
    assert!(matches!(refused, Err(HostError::NoCapacity(_))), "{refused:?}");
    assert!(matches!(volume(&lab, new(2).id), Err(HostError::NotFound(_))));
    let refused = lab.run(async { worker.extend_volume(user(), new(1).id, 4).await });
    assert!(matches!(refused, Err(HostError::NoCapacity(_))), "{refused:?}");
    assert_eq!(volume(&lab, new(1).id).unwrap().volume.size_gb, 1);
    let booked: Vec<u64> = lab.world.disks.booked().into_values().collect();
    assert_eq!(booked, [BYTES]);
    create_volume(&lab, NewVolume { size_gb: 2, ..new(2) });
}

#[test]
fn a_machine_does_not_start_without_its_volume() {
    let mut lab = Lab::new(Settings::default());
    let data = new(1);
    create_volume(&lab, data.clone());
    let create = mounting(&mut lab, "m1", &data);
    create_machine(&lab, create);
    lab.wait("m1", "started", 15_000).unwrap();
    lab.script("stop m1; wait m1 stopped");
    std::fs::remove_file(lab.world.data_dir().join(format!("volumes/{}.raw", data.id))).unwrap();
    lab.script("start m1; wait m1 failed");
    let machine = lab.machine(lab.id("m1"));
    let event = machine.events.iter().find(|event| event.kind == "launch_failed").unwrap();
    let reason = event.request.as_ref().and_then(|request| request.reason.clone()).unwrap();
    assert!(reason.contains(&format!("open the disk of volume {}", data.id)), "{reason}");
}
