//! Limits of a group, as the files of cgroups v1 and v2 want them.

use crate::cgroup::trees::Controller::{self, Cpu, Memory, Pids};
use std::time::Duration;

/// Limits of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Share of the CPU when there is not enough, in thousandths of a core.
    pub(crate) cpu_weight: u32,
    /// Most CPU time, in thousandths of a core.
    pub(crate) cpu_quota: u32,
    /// Most memory in bytes.
    pub(crate) memory: u64,
    /// Most processes and threads.
    pub(crate) pids: u32,
}

/// Period of the quota that a group has from its creation.
pub(super) const PERIOD: Duration = Duration::from_millis(100);

/// What all vCPUs of a VM can use, and a fifth of a core for QEMU's own threads, in thousandths
/// of a core.
pub(crate) fn all_vcpus(vcpus: u32) -> u32 {
    vcpus.saturating_mul(1000).saturating_add(200)
}

/// The CPU time of a share of a core in each [`PERIOD`].
pub(super) fn share(thousandths: u32) -> Duration {
    PERIOD * thousandths / 1000
}

/// Files and what to write to them for a quota of CPU time in each period. The kernel takes no
/// quota below a millisecond.
pub(super) fn quota(
    unified: bool,
    quota: Duration,
    period: Duration,
) -> Vec<(&'static str, String)> {
    let (quota_us, period_us) = (quota.as_micros().max(1000), period.as_micros());
    match unified {
        false => vec![
            ("cpu.cfs_period_us", period_us.to_string()),
            ("cpu.cfs_quota_us", quota_us.to_string()),
        ],
        true => vec![("cpu.max", format!("{quota_us} {period_us}"))],
    }
}

/// Files and what to write to them. The weight of one core is the kernel's
/// default in both versions.
pub(super) fn settings(
    of: Controller,
    unified: bool,
    limits: Limits,
) -> Vec<(&'static str, String)> {
    let weight = u64::from(limits.cpu_weight);
    match (of, unified) {
        (Cpu, _) => {
            let weight = match unified {
                false => ("cpu.shares", (weight * 1024 / 1000).clamp(2, 262_144).to_string()),
                true => ("cpu.weight", (weight / 10).clamp(1, 10_000).to_string()),
            };
            let mut all = vec![weight];
            all.extend(quota(unified, share(limits.cpu_quota), PERIOD));
            all
        }
        (Memory, false) => vec![("memory.limit_in_bytes", limits.memory.to_string())],
        (Memory, true) => {
            vec![("memory.max", limits.memory.to_string()), ("memory.oom.group", "1".into())]
        }
        (Pids, _) => vec![("pids.max", limits.pids.to_string())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn limits_of_two_vcpus_of_a_tenth_of_a_core() {
        let limits = Limits { cpu_weight: 100, cpu_quota: 2200, memory: 1 << 28, pids: 66 };
        let mut text = String::new();
        for unified in [false, true] {
            for (file, value) in Controller::ALL.iter().flat_map(|c| settings(*c, unified, limits))
            {
                text.push_str(&format!("{file} = {value}\n"));
            }
        }
        expect![[r#"
            cpu.shares = 102
            cpu.cfs_period_us = 100000
            cpu.cfs_quota_us = 220000
            memory.limit_in_bytes = 268435456
            pids.max = 66
            cpu.weight = 10
            cpu.max = 220000 100000
            memory.max = 268435456
            memory.oom.group = 1
            pids.max = 66
        "#]]
        .assert_eq(&text);
    }
}
