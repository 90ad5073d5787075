//! Which hosts may take a machine, best first.

use crate::Error;
use host_api::HostInfo;
use model::id::HostId;
use std::cmp::Reverse;

/// What a machine wants of its host.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Region codes in order of preference, separated by commas; `any` and the
    /// empty text stand for all.
    pub regions: String,
    /// MiB.
    pub memory_mb: u32,
    /// It is to run at once, so that the memory has to be free now.
    pub launch: bool,
}

/// Why a host cannot take a machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its region is not among the wanted ones.
    #[error("host {host} is in region {region}, not in {wanted:?}")]
    Region {
        /// The host.
        host: HostId,
        /// Its region.
        region: String,
        /// The regions that were asked for.
        wanted: String,
    },
    /// It has not enough memory.
    #[error(
        "host {host} in region {region} has {room} of {total} MB memory free, {need} MB are needed"
    )]
    Memory {
        /// The host.
        host: HostId,
        /// Its region.
        region: String,
        /// MB that a machine can have there now.
        room: u64,
        /// MB that may be promised in all.
        total: u64,
        /// MB that the machine needs.
        need: u64,
    },
}

/// Every host refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoCandidate(pub Vec<Refusal>);

impl std::fmt::Display for NoCandidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("could not reserve resource for machine: ")?;
        if self.0.is_empty() {
            return f.write_str("there is no host");
        }
        let reasons: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&reasons.join("; "))
    }
}

impl From<NoCandidate> for Error {
    fn from(none: NoCandidate) -> Self {
        let err = Self::no_capacity(&none.to_string());
        let region_only =
            !none.0.is_empty() && none.0.iter().all(|r| matches!(r, Refusal::Region { .. }));
        if region_only {
            return err.hint(
                "leave the region out, name one of `GET /v1/platform/regions`, or let the \
                 operator give a host's region this code as an alias in its settings",
            );
        }
        err
    }
}

/// Numbers of the hosts that may take the machine: by the order of the wanted
/// regions, then by free memory.
///
/// # Errors
/// No host may; each is named with the constraint it does not meet.
pub fn candidates(hosts: &[HostInfo], wanted: &Wanted) -> Result<Vec<HostId>, NoCandidate> {
    let regions: Vec<&str> =
        wanted.regions.split(',').map(str::trim).filter(|region| !region.is_empty()).collect();
    let mut fit = Vec::new();
    let mut refusals = Vec::new();
    for host in hosts {
        match fits(host, &regions, wanted) {
            Ok(rank) => fit.push((rank, Reverse(free(host)), host.host)),
            Err(refusal) => refusals.push(refusal),
        }
    }
    if fit.is_empty() {
        return Err(NoCandidate(refusals));
    }
    fit.sort_unstable();
    Ok(fit.into_iter().map(|(.., host)| host).collect())
}

/// Position of the host's region among the wanted ones, if the machine fits there.
fn fits(host: &HostInfo, regions: &[&str], wanted: &Wanted) -> Result<usize, Refusal> {
    let region = || host.region.clone();
    let rank = rank(host, regions).ok_or_else(|| Refusal::Region {
        host: host.host,
        region: region(),
        wanted: regions.join(",").chars().take(80).collect(),
    })?;
    let need = u64::from(wanted.memory_mb);
    // No machine may be larger than the memory that there really is.
    let room = if wanted.launch { free(host).min(host.memory_mib) } else { host.memory_mib };
    if need > room {
        let (host, region, total) = (host.host, region(), promisable(host));
        return Err(Refusal::Memory { host, region, room, total, need });
    }
    Ok(rank)
}

/// MiB that may still be promised. The host itself has the last word.
pub fn free(host: &HostInfo) -> u64 {
    promisable(host).saturating_sub(host.memory_reserved_mib)
}

/// MiB that may be promised in all.
fn promisable(host: &HostInfo) -> u64 {
    // A factor below 1 means that the host does not report it.
    (host.memory_mib as f64 * host.overcommit.max(1.0)) as u64
}

/// Position of the host's region among the wanted ones.
fn rank(host: &HostInfo, regions: &[&str]) -> Option<usize> {
    if regions.is_empty() {
        return Some(0);
    }
    let is_host = |code: &str| {
        code == "any" || code == host.region || host.region_aliases.iter().any(|a| a == code)
    };
    regions.iter().position(|region| is_host(region))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u16, region: &str, memory: u64, reserved: u64) -> HostInfo {
        HostInfo {
            host: HostId(number),
            region: region.into(),
            memory_mib: memory,
            memory_reserved_mib: reserved,
            ..HostInfo::default()
        }
    }

    fn place(regions: &str, memory_mb: u32) -> Result<Vec<u16>, String> {
        let hosts =
            [host(0, "iad", 4096, 3072), host(1, "iad", 4096, 0), host(2, "ams", 2048, 1900)];
        let wanted = Wanted { regions: regions.into(), memory_mb, launch: true };
        let found = candidates(&hosts, &wanted).map_err(|refusal| refusal.to_string())?;
        Ok(found.into_iter().map(|host| host.0).collect())
    }

    #[test]
    fn regions_first_then_free_memory() {
        for (regions, memory, expected) in [
            ("", 128, vec![1, 0, 2]),
            ("any", 512, vec![1, 0]),
            ("ams,iad", 128, vec![2, 1, 0]),
            ("ams, iad", 2048, vec![1]),
            ("fra,any", 128, vec![1, 0, 2]),
        ] {
            assert_eq!(place(regions, memory), Ok(expected), "{regions} {memory}");
        }
    }

    #[test]
    fn a_refusal_names_every_host_and_its_constraint() {
        assert_eq!(
            place("ams", 512).unwrap_err(),
            "could not reserve resource for machine: host 0 is in region iad, not in \"ams\"; \
             host 1 is in region iad, not in \"ams\"; \
             host 2 in region ams has 148 of 2048 MB memory free, 512 MB are needed"
        );
        let none = candidates(&[], &Wanted { regions: String::new(), memory_mb: 1, launch: true });
        assert!(none.unwrap_err().to_string().ends_with("there is no host"));
    }

    #[test]
    fn a_region_has_aliases_and_a_refusal_names_them() {
        let hosts = [HostInfo { region_aliases: vec!["iad".into()], ..host(0, "local", 4096, 0) }];
        let place = |regions: &str| {
            candidates(&hosts, &Wanted { regions: regions.into(), memory_mb: 256, launch: true })
        };
        assert_eq!(place("iad"), Ok(vec![HostId(0)]));
        let refused = Error::from(place("ams").unwrap_err());
        assert!(refused.hint.unwrap().contains("alias"));
    }

    #[test]
    fn memory_may_be_promised_more_than_once() {
        let hosts = [HostInfo { overcommit: 2.0, ..host(0, "iad", 4096, 5000) }];
        let place = |memory_mb| {
            candidates(&hosts, &Wanted { regions: String::new(), memory_mb, launch: true })
        };
        assert_eq!(place(3072), Ok(vec![HostId(0)]));
        let refused = place(4096).unwrap_err().to_string();
        assert!(refused.contains("has 3192 of 8192 MB memory free"), "{refused}");
    }

    #[test]
    fn what_is_not_launched_only_has_to_fit() {
        let hosts = [host(0, "iad", 1024, 1024)];
        let wanted = |memory_mb| Wanted { regions: String::new(), memory_mb, launch: false };
        assert_eq!(candidates(&hosts, &wanted(1024)), Ok(vec![HostId(0)]));
        assert!(candidates(&hosts, &wanted(1280)).is_err());
    }
}
