//! Limits of a group, as the files of cgroups v1 and v2 want them.

use crate::cgroup::trees::Controller::{self, Cpu, Memory, Pids};

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

/// Files and what to write to them. The weight of one core is the kernel's
/// default in both versions.
pub(super) fn settings(
    of: Controller,
    unified: bool,
    limits: Limits,
) -> Vec<(&'static str, String)> {
    const PERIOD_US: u64 = 100_000;
    let quota_us = (u64::from(limits.cpu_quota) * PERIOD_US / 1000).max(1000);
    let weight = u64::from(limits.cpu_weight);
    match (of, unified) {
        (Cpu, false) => vec![
            ("cpu.shares", (weight * 1024 / 1000).clamp(2, 262_144).to_string()),
            ("cpu.cfs_period_us", PERIOD_US.to_string()),
            ("cpu.cfs_quota_us", quota_us.to_string()),
        ],
        (Cpu, true) => vec![
            ("cpu.weight", (weight / 10).clamp(1, 10_000).to_string()),
            ("cpu.max", format!("{quota_us} {PERIOD_US}")),
        ],
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
