//! Which hosts may take a machine, best first. [`expression`] has the form in which a request
//! names regions, [`plan`] answers where several machines would be placed.

mod expression;
mod plan;

use crate::Error;
use host_api::HostInfo;
use model::id::HostId;
use std::cmp::Reverse;

pub use expression::Regions;
pub(crate) use expression::codes;
pub use plan::{Planned, Weights, plan};

/// What a machine wants of its host.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Regions in order of preference.
    pub regions: Regions,
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
                 operator give a host's region this code in its setting `host.region_codes`",
            );
        }
        err
    }
}

/// A host that may take a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The host.
    pub host: HostId,
    /// The code of its region that the machine was asked for; `None` if it may have any.
    pub region: Option<String>,
}

/// The hosts that may take the machine: by the order of the wanted regions, then by free
/// memory.
///
/// # Errors
/// No host may; each is named with the constraint it does not meet.
pub fn candidates(hosts: &[HostInfo], wanted: &Wanted) -> Result<Vec<Candidate>, NoCandidate> {
    let ranked = ranked(hosts, wanted)?.into_iter();
    Ok(ranked.map(|Ranked { host, region, .. }| Candidate { host: host.host, region }).collect())
}

/// A candidate with what it is compared by.
struct Ranked<'a> {
    /// Position of its region among the wanted ones.
    rank: usize,
    host: &'a HostInfo,
    region: Option<String>,
}

/// The candidates, best first.
fn ranked<'a>(hosts: &'a [HostInfo], wanted: &Wanted) -> Result<Vec<Ranked<'a>>, NoCandidate> {
    let nearest = nearest(hosts);
    let mut fit = Vec::new();
    let mut refusals = Vec::new();
    for host in hosts {
        match fits(host, nearest, wanted) {
            Ok((rank, region)) => fit.push(Ranked { rank, host, region }),
            Err(refusal) => refusals.push(refusal),
        }
    }
    if fit.is_empty() {
        return Err(NoCandidate(refusals));
    }
    fit.sort_unstable_by_key(|fit| (fit.rank, Reverse(free(fit.host)), fit.host.host));
    Ok(fit)
}

/// The region of the API: that of the host with the lowest number, on which it runs.
pub fn nearest(hosts: &[HostInfo]) -> &str {
    hosts.iter().min_by_key(|host| host.host).map_or("", |host| &host.region)
}

/// How the host's region is wanted, if the machine fits there.
fn fits(host: &HostInfo, nearest: &str, wanted: &Wanted) -> Result<expression::Match, Refusal> {
    let region = || codes(host).collect::<Vec<_>>().join(", ");
    let found = wanted.regions.find(host, nearest).ok_or_else(|| Refusal::Region {
        host: host.host,
        region: region(),
        wanted: wanted.regions.to_string().chars().take(80).collect(),
    })?;
    let need = u64::from(wanted.memory_mb);
    let room = room(host, wanted.launch);
    if need > room {
        let (host, region, total) = (host.host, region(), promisable(host));
        return Err(Refusal::Memory { host, region, room, total, need });
    }
    Ok(found)
}

/// MiB that one machine may have. No machine may be larger than the memory that there really is.
fn room(host: &HostInfo, launch: bool) -> u64 {
    if launch { free(host).min(host.memory_mib) } else { host.memory_mib }
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

    fn wanted(regions: &str, memory_mb: u32) -> Wanted {
        Wanted { regions: Regions::parse("region", regions).unwrap(), memory_mb, launch: true }
    }

    fn place(regions: &str, memory_mb: u32) -> Result<Vec<u16>, String> {
        let hosts =
            [host(0, "iad", 4096, 3072), host(1, "iad", 4096, 0), host(2, "ams", 2048, 1900)];
        let found = candidates(&hosts, &wanted(regions, memory_mb));
        let found = found.map_err(|refusal| refusal.to_string())?;
        Ok(found.into_iter().map(|found| found.host.0).collect())
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
        let none = candidates(&[], &wanted("", 1));
        assert!(none.unwrap_err().to_string().ends_with("there is no host"));
    }

    #[test]
    fn a_region_has_aliases_and_a_refusal_names_them() {
        let hosts = [HostInfo { region_aliases: vec!["iad".into()], ..host(0, "local", 4096, 0) }];
        let place = |regions: &str| candidates(&hosts, &wanted(regions, 256));
        let region = Some("local".to_owned());
        assert_eq!(place("iad"), Ok(vec![Candidate { host: HostId(0), region }]));
        let refused = Error::from(place("ams").unwrap_err());
        assert!(refused.hint.unwrap().contains("region_codes"));
    }

    #[test]
    fn memory_may_be_promised_more_than_once() {
        let hosts = [HostInfo { overcommit: 2.0, ..host(0, "iad", 4096, 5000) }];
        let place = |memory_mb| candidates(&hosts, &wanted("", memory_mb));
        assert_eq!(place(3072).unwrap().len(), 1);
        let refused = place(4096).unwrap_err().to_string();
        assert!(refused.contains("has 3192 of 8192 MB memory free"), "{refused}");
    }

    #[test]
    fn what_is_not_launched_only_has_to_fit() {
        let hosts = [host(0, "iad", 1024, 1024)];
        let place =
            |memory_mb| candidates(&hosts, &Wanted { launch: false, ..wanted("", memory_mb) });
        assert_eq!(place(1024).unwrap().len(), 1);
        assert!(place(1280).is_err());
    }
}
