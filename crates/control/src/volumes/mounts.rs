//! Which volumes a machine is given.
//!
//! A mount names a volume by id, or only by name: then any that is free will do. All are on one
//! host, which is the machine's. What is chosen here is a proposal: the host attaches the volumes
//! in the transaction that records the machine, and refuses one that another machine has got
//! meanwhile.

use super::list;
use crate::placement::Candidate;
use crate::{Error, Kind, Platform};
use host_api::HostVolume;
use model::id::{HostId, MachineId, VolumeId};
use model::volume::State;
use std::collections::BTreeSet;
use store::records::AppRecord;
use wire::machines::{MachineConfig, Mount};

/// The candidates on which a config can have its volumes, each with the mounts that it has there.
///
/// # Errors
/// A volume is not there or not free, or no candidate has all of them.
pub(crate) async fn on_hosts(
    platform: &Platform,
    app: &AppRecord,
    config: &MachineConfig,
    candidates: Vec<Candidate>,
) -> Result<Vec<(Candidate, Option<Vec<Mount>>)>, Error> {
    let mounts = match config.mounts.as_deref() {
        None | Some([]) => {
            let mounts = config.mounts.clone();
            return Ok(candidates.into_iter().map(|one| (one, mounts.clone())).collect());
        }
        Some(mounts) => mounts,
    };
    let volumes = list::on_hosts(platform, app.id).await?;
    let mut able = Vec::new();
    let mut refusal = None;
    for candidate in candidates {
        match assigned(mounts, &volumes, candidate.host, None) {
            Ok(mounts) => able.push((candidate, Some(mounts))),
            Err(err) => refusal = refusal.or(Some(err)),
        }
    }
    match refusal {
        Some(err) if able.is_empty() => Err(err),
        _ => Ok(able),
    }
}

/// Gives the mounts of a machine that exists their volumes: those that it has stay.
///
/// # Errors
/// As of [`on_hosts`].
pub(crate) async fn for_machine(
    platform: &Platform,
    app: model::id::AppId,
    (host, machine): (HostId, MachineId),
    config: &mut MachineConfig,
) -> Result<(), Error> {
    let Some(mounts) = config.mounts.as_deref().filter(|mounts| !mounts.is_empty()) else {
        return Ok(());
    };
    let volumes = list::on_hosts(platform, app).await?;
    config.mounts = Some(assigned(mounts, &volumes, host, Some(machine))?);
    Ok(())
}

/// The mounts with the volumes that they have on a host.
fn assigned(
    mounts: &[Mount],
    volumes: &[(HostId, HostVolume)],
    host: HostId,
    own: Option<MachineId>,
) -> Result<Vec<Mount>, Error> {
    let mut taken: BTreeSet<VolumeId> = BTreeSet::new();
    // Those with an id first: another mount must not be given what they name.
    for (i, mount) in mounts.iter().enumerate() {
        if let Some(id) = mount.volume.as_deref().filter(|id| !id.is_empty()) {
            taken.insert(by_id(i, id, volumes, host, own)?.volume.id);
        }
    }
    let mut assigned = Vec::new();
    for (i, mount) in mounts.iter().enumerate() {
        let volume = match mount.volume.as_deref().filter(|id| !id.is_empty()) {
            Some(id) => by_id(i, id, volumes, host, own)?,
            None => {
                let name = mount.name.as_deref().unwrap_or_default();
                let found = by_name(i, name, (volumes, &taken), host, own)?;
                taken.insert(found.volume.id);
                found
            }
        };
        assigned.push(Mount {
            volume: Some(volume.volume.id.to_string()),
            name: Some(volume.volume.name.to_string()),
            size_gb: Some(volume.volume.size_gb),
            encrypted: Some(false),
            ..mount.clone()
        });
    }
    Ok(assigned)
}

fn field(i: usize) -> String {
    format!("config.mounts[{i}].volume")
}

fn by_id<'a>(
    i: usize,
    id: &str,
    volumes: &'a [(HostId, HostVolume)],
    host: HostId,
    own: Option<MachineId>,
) -> Result<&'a HostVolume, Error> {
    let parsed: VolumeId =
        id.parse().map_err(|err: model::id::BadId| Error::invalid(field(i), err.to_string()))?;
    let found = volumes.iter().find(|(_, found)| found.volume.id == parsed);
    let (at, found) = found.ok_or_else(|| {
        Error::invalid(field(i), format!("the app has no volume {parsed}, or its host is away"))
    })?;
    let conflict = |why: String| Error { field: Some(field(i)), ..Error::new(Kind::Conflict, why) };
    if let Some(other) = found.machine.filter(|machine| Some(*machine) != own) {
        return Err(conflict(format!("volume {parsed} is attached to machine {other}")));
    }
    if found.state != State::Created {
        return Err(conflict(format!("volume {parsed} is {}", found.state)));
    }
    if *at != host {
        let region = &found.volume.region;
        let why = match own {
            Some(_) => format!("volume {parsed} is on host {at}, and the machine on host {host}"),
            None => format!(
                "volume {parsed} is on host {at} in region {region}, which cannot take the machine"
            ),
        };
        return Err(conflict(why));
    }
    Ok(found)
}

/// The oldest free volume of a name; one that the machine has already before all others.
fn by_name<'a>(
    i: usize,
    name: &str,
    (volumes, taken): (&'a [(HostId, HostVolume)], &BTreeSet<VolumeId>),
    host: HostId,
    own: Option<MachineId>,
) -> Result<&'a HostVolume, Error> {
    let here = volumes.iter().filter(|(at, _)| *at == host).map(|(_, found)| found);
    let usable = |found: &&HostVolume| {
        let free = found.machine.is_none() || found.machine == own;
        let right = found.volume.name.as_str() == name && found.state == State::Created;
        right && free && !taken.contains(&found.volume.id)
    };
    let found = here.filter(usable).min_by_key(|found| (found.machine.is_none(), found.created_ms));
    found.ok_or_else(|| {
        let why = format!("there is no free volume {name:?} where the machine can be placed");
        Error { field: Some(field(i)), ..Error::new(Kind::Conflict, why) }
            .hint("`updraft volumes create` makes one; `updraft volumes list` shows what is free")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_api::NewVolume;
    use model::id::{AppId, OrgId};
    use model::volume::FileSystem;

    fn volume(host: u16, number: u128, name: &str, machine: Option<u64>) -> (HostId, HostVolume) {
        let volume = NewVolume {
            id: VolumeId::from_random(number),
            app: AppId(1),
            org: OrgId(1),
            name: name.parse().unwrap(),
            region: "local".into(),
            size_gb: 1,
            fstype: FileSystem::Ext4,
            snapshot_retention: 5,
            auto_backup_enabled: true,
        };
        let machine = machine.map(MachineId::from_random);
        let created_ms = u64::try_from(number).unwrap();
        let found =
            HostVolume { volume, state: State::Created, machine, created_ms, bytes_used: 0 };
        (HostId(host), found)
    }

    fn id(number: u128) -> Mount {
        let volume = Some(VolumeId::from_random(number).to_string());
        Mount { volume, ..Mount::default() }
    }

    fn name(name: &str) -> Mount {
        Mount { name: Some(name.into()), ..Mount::default() }
    }

    #[test]
    fn mounts_are_given_free_volumes_of_one_host() {
        let volumes = [
            volume(0, 1, "data", None),
            volume(0, 2, "data", Some(7)),
            volume(0, 3, "data", None),
            volume(1, 4, "logs", None),
        ];
        let given = |mounts: &[Mount], host, own: Option<u64>| {
            let own = own.map(MachineId::from_random);
            let given = assigned(mounts, &volumes, HostId(host), own)?;
            let number = |mount: &Mount| {
                let id = mount.volume.clone().unwrap_or_default();
                volumes.iter().position(|(_, v)| v.volume.id.to_string() == id).unwrap() + 1
            };
            Ok::<_, Error>(given.iter().map(number).collect::<Vec<_>>())
        };
        assert_eq!(given(&[name("data")], 0, None).unwrap(), [1]);
        assert_eq!(given(&[name("data"), name("data")], 0, None).unwrap(), [1, 3]);
        assert_eq!(given(&[name("data"), id(1)], 0, None).unwrap(), [3, 1]);
        assert_eq!(given(&[name("data")], 0, Some(7)).unwrap(), [2], "it keeps the one it has");
        assert_eq!(given(&[id(4)], 1, None).unwrap(), [4]);
        for (mounts, host, why) in [
            (vec![name("data"); 3], 0, "there is no free volume \"data\""),
            (vec![name("logs")], 0, "there is no free volume \"logs\""),
            (vec![id(2)], 0, "is attached to machine"),
            (vec![id(4)], 0, "is on host 1 in region local"),
            (vec![id(9)], 0, "the app has no volume"),
            (vec![Mount { volume: Some("x".into()), ..Mount::default() }], 0, "is not valid"),
        ] {
            let refused = given(&mounts, host, None).unwrap_err();
            assert!(refused.to_string().contains(why), "{refused}");
            assert!(refused.field.is_some_and(|field| field.starts_with("config.mounts[")));
        }
    }
}
