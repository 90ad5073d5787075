//! Where several machines of one size would be placed. Nothing is reserved: the answer is advice
//! (<https://fly.io/docs/machines/api/platform-resource/>).

use super::{NoCandidate, Ranked, Wanted, free, ranked};
use host_api::HostInfo;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// How much each part of a request counts. A host's penalty is the position of its region among the wanted
/// ones times `region`, plus the machines planned on it so far times `spread`; the host with the
/// lowest is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// For an early region of the expression.
    pub region: u32,
    /// For few machines on one host.
    pub spread: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { region: 50, spread: 1 }
    }
}

/// Machines of one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Code of the region.
    pub region: String,
    /// Machines planned there.
    pub count: u32,
    /// The hosts that they are planned on, which make them at the same time.
    pub hosts: u32,
}

/// A host while the plan is made; the greatest is the next.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Next {
    penalty: Reverse<u64>,
    free: u64,
    /// Position among the candidates, so that equal hosts have an order.
    index: Reverse<usize>,
}

/// Places up to `count` machines; the region that was chosen first comes first. There may be
/// fewer machines than asked for.
///
/// # Errors
/// There is room for none.
pub fn plan(
    hosts: &[HostInfo],
    wanted: &Wanted,
    count: u32,
    weights: Weights,
) -> Result<Vec<Planned>, NoCandidate> {
    let ranked = ranked(hosts, wanted)?;
    let need = u64::from(wanted.memory_mb).max(1);
    let first = |(index, ranked): (usize, &Ranked<'_>)| Next {
        penalty: Reverse(ranked.rank as u64 * u64::from(weights.region)),
        free: if wanted.launch { free(ranked.host) } else { u64::MAX },
        index: Reverse(index),
    };
    let mut heap: BinaryHeap<Next> = ranked.iter().enumerate().map(first).collect();
    let mut planned: Vec<(Planned, BTreeSet<usize>)> = Vec::new();
    for _ in 0..count {
        let Some(Next { penalty: Reverse(penalty), free, index }) = heap.pop() else { break };
        let Ranked { host, region, .. } = &ranked[index.0];
        add(&mut planned, region.as_ref().unwrap_or(&host.region), index.0);
        let left = free.saturating_sub(need);
        if left >= need {
            let penalty = Reverse(penalty + u64::from(weights.spread));
            heap.push(Next { penalty, free: left, index });
        }
    }
    Ok(planned.into_iter().map(|(planned, _)| planned).collect())
}

fn add(planned: &mut Vec<(Planned, BTreeSet<usize>)>, region: &str, host: usize) {
    let found = planned.iter().position(|(planned, _)| planned.region == region);
    let at = found.unwrap_or_else(|| {
        let first = Planned { region: region.to_owned(), count: 0, hosts: 0 };
        planned.push((first, BTreeSet::new()));
        planned.len() - 1
    });
    let (planned, hosts) = &mut planned[at];
    planned.count += 1;
    hosts.insert(host);
    planned.hosts = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
}

#[cfg(test)]
mod tests {
    use super::super::Regions;
    use super::*;
    use model::id::HostId;

    fn host(number: u16, region: &str, memory: u64) -> HostInfo {
        let host = HostId(number);
        HostInfo { host, region: region.into(), memory_mib: memory, ..HostInfo::default() }
    }

    fn check(expression: &str, count: u32, weights: Weights) -> String {
        let hosts = [host(0, "iad", 1024), host(1, "iad", 2048), host(2, "ams", 1024)];
        let regions = Regions::parse("region", expression).unwrap();
        let wanted = Wanted { regions, memory_mb: 512, launch: true };
        match plan(&hosts, &wanted, count, weights) {
            Ok(planned) => {
                let shown = planned.iter().map(|p| format!("{} {}/{}", p.region, p.count, p.hosts));
                shown.collect::<Vec<_>>().join(", ")
            }
            Err(err) => err.to_string(),
        }
    }

    #[test]
    fn machines_are_spread_over_hosts_and_the_first_region_is_filled_first() {
        let by_spread = Weights { region: 0, spread: 1 };
        for (expression, count, weights, planned) in [
            ("iad", 1, Weights::default(), "iad 1/1"),
            ("iad", 2, Weights::default(), "iad 2/2"),
            ("iad", 100, Weights::default(), "iad 6/2"),
            ("ams,iad", 3, Weights::default(), "ams 2/1, iad 1/1"),
            ("any", 100, Weights::default(), "iad 6/2, ams 2/1"),
            ("ams,iad", 3, by_spread, "iad 2/2, ams 1/1"),
            ("iad", 0, Weights::default(), ""),
        ] {
            assert_eq!(check(expression, count, weights), planned, "{expression} {count}");
        }
        assert!(check("fra", 1, Weights::default()).contains("not in \"fra\""));
    }
}
