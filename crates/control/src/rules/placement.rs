//! Which hosts may take a machine, best first.

use std::cmp::Reverse;
use wire::worker::HostInfo;

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

/// Every host refused, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not reserve resource for machine: {}", .0.join("; "))]
pub struct Refusal(pub Vec<String>);

/// Numbers of the hosts that may take the machine: by the order of the wanted
/// regions, then by free memory.
///
/// # Errors
/// No host may; each is named with the constraint it does not meet.
pub fn candidates(hosts: &[HostInfo], wanted: &Wanted) -> Result<Vec<u16>, Refusal> {
    let regions: Vec<&str> =
        wanted.regions.split(',').map(str::trim).filter(|region| !region.is_empty()).collect();
    let mut fit = Vec::new();
    let mut complaints = Vec::new();
    for host in hosts {
        match rank(host, &regions).ok_or_else(|| region_complaint(host, &regions)) {
            Ok(rank) => match memory_complaint(host, wanted) {
                None => fit.push((rank, Reverse(free(host)), host.host)),
                Some(why) => complaints.push(why),
            },
            Err(why) => complaints.push(why),
        }
    }
    if fit.is_empty() {
        if hosts.is_empty() {
            complaints.push("there is no host".into());
        }
        return Err(Refusal(complaints));
    }
    fit.sort_unstable();
    Ok(fit.into_iter().map(|(.., host)| host).collect())
}

/// MiB that may still be promised. The host itself has the last word.
pub fn free(host: &HostInfo) -> u64 {
    promisable(host).saturating_sub(host.memory_reserved_mib)
}

/// MiB that may be promised in all.
fn promisable(host: &HostInfo) -> u64 {
    // A factor below 1 is a host that does not say.
    (host.memory_mib as f64 * host.overcommit.max(1.0)) as u64
}

/// Position of the host's region among the wanted ones.
fn rank(host: &HostInfo, regions: &[&str]) -> Option<usize> {
    if regions.is_empty() {
        return Some(0);
    }
    regions.iter().position(|region| *region == "any" || *region == host.region)
}

fn region_complaint(host: &HostInfo, regions: &[&str]) -> String {
    let wanted: String = regions.join(",").chars().take(80).collect();
    format!("host {} is in region {}, not in {wanted:?}", host.host, host.region)
}

fn memory_complaint(host: &HostInfo, wanted: &Wanted) -> Option<String> {
    let need = u64::from(wanted.memory_mb);
    // No machine may be larger than what there really is.
    let room = if wanted.launch { free(host).min(host.memory_mib) } else { host.memory_mib };
    (need > room).then(|| {
        format!(
            "host {} in region {} has {room} of {} MB memory free, {need} MB are needed",
            host.host,
            host.region,
            promisable(host)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u16, region: &str, memory: u64, reserved: u64) -> HostInfo {
        HostInfo {
            host: number,
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
        candidates(&hosts, &wanted).map_err(|refusal| refusal.to_string())
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
        let nobody =
            candidates(&[], &Wanted { regions: String::new(), memory_mb: 1, launch: true });
        assert!(nobody.unwrap_err().to_string().ends_with("there is no host"));
    }

    #[test]
    fn memory_may_be_promised_more_than_once() {
        let hosts = [HostInfo { overcommit: 2.0, ..host(0, "iad", 4096, 5000) }];
        let place = |memory_mb| {
            candidates(&hosts, &Wanted { regions: String::new(), memory_mb, launch: true })
        };
        assert_eq!(place(3072), Ok(vec![0]));
        let refused = place(4096).unwrap_err().to_string();
        assert!(refused.contains("has 3192 of 8192 MB memory free"), "{refused}");
    }

    #[test]
    fn what_is_not_launched_only_has_to_fit() {
        let hosts = [host(0, "iad", 1024, 1024)];
        let wanted = |memory_mb| Wanted { regions: String::new(), memory_mb, launch: false };
        assert_eq!(candidates(&hosts, &wanted(1024)), Ok(vec![0]));
        assert!(candidates(&hosts, &wanted(1280)).is_err());
    }
}
