//! Guest presets and allowed sizes (fly.io/docs/about/pricing, "Started Fly
//! Machines"). What belongs here follows from the size alone: `cpu_credit` is the CPU time
//! that shared vCPUs may use.

pub mod cpu_credit;

use std::fmt;

/// How a guest's CPUs are scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CpuKind {
    /// A share of a CPU.
    Shared,
    /// A CPU of its own.
    Performance,
}

impl CpuKind {
    /// From the API's name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "shared" => Some(Self::Shared),
            "performance" => Some(Self::Performance),
            _ => None,
        }
    }

    /// The API's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Performance => "performance",
        }
    }

    /// Numbers of CPUs that a guest may have.
    pub fn cpus(self) -> &'static [u32] {
        match self {
            Self::Shared => &[1, 2, 4, 6, 8, 16],
            Self::Performance => &[1, 2, 4, 6, 8, 10, 12, 14, 16],
        }
    }

    /// Memory of a guest with so many CPUs, in MiB.
    pub fn memory(self, cpus: u32) -> Memory {
        let per_cpu = |least: u32, most: u32, step| Memory {
            least: least.saturating_mul(cpus),
            most: most.saturating_mul(cpus),
            step,
        };
        match self {
            Self::Shared => per_cpu(256, 2048, 256),
            // The stricter of the two documented steps.
            Self::Performance => per_cpu(2048, 8192, 2048),
        }
    }
}

impl fmt::Display for CpuKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Amounts of memory that a guest may have, in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Least, and the default.
    pub least: u32,
    /// Most.
    pub most: u32,
    /// In multiples of this.
    pub step: u32,
}

/// Size of a guest that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    /// How its CPUs are scheduled.
    pub kind: CpuKind,
    /// Number of CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u32,
}

/// Why a size is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct BadSize {
    /// `cpu_kind`, `cpus` or `memory_mb`.
    pub field: &'static str,
    /// The rule it breaks, for people.
    pub why: String,
}

impl Size {
    /// shared-cpu-1x with 256 MiB.
    pub const DEFAULT: Self = Self { kind: CpuKind::Shared, cpus: 1, memory_mb: 256 };

    /// From the fields of a `guest`; what is absent gets its default: shared,
    /// 1 CPU, the least memory for that.
    ///
    /// # Errors
    /// The first rule that is broken; later ones depend on earlier fields.
    pub fn new(
        kind: Option<&str>,
        cpus: Option<u32>,
        memory_mb: Option<u32>,
    ) -> Result<Self, BadSize> {
        let bad = |field, why| Err(BadSize { field, why });
        let word = kind.unwrap_or("shared");
        let Some(kind) = CpuKind::parse(word) else {
            let word: String = word.chars().take(40).collect();
            return bad("cpu_kind", format!("must be shared or performance, not {word:?}"));
        };
        let cpus = cpus.unwrap_or(1);
        if !kind.cpus().contains(&cpus) {
            let allowed = kind.cpus().iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            return bad("cpus", format!("must be one of {allowed} for {kind} CPUs, not {cpus}"));
        }
        let Memory { least, most, step } = kind.memory(cpus);
        let memory_mb = memory_mb.unwrap_or(least);
        if !(least..=most).contains(&memory_mb) || !memory_mb.is_multiple_of(step) {
            let rule = format!(
                "must be a multiple of {step} from {least} to {most} for {cpus} {kind} CPUs, \
                 not {memory_mb}"
            );
            return bad("memory_mb", rule);
        }
        Ok(Self { kind, cpus, memory_mb })
    }

    /// The preset with this name, such as `shared-cpu-2x` or `performance-1x`.
    pub fn preset(name: &str) -> Option<Self> {
        PRESETS.iter().find(|(preset, ..)| *preset == name).map(|(_, kind, cpus)| Self {
            kind: *kind,
            cpus: *cpus,
            memory_mb: kind.memory(*cpus).least,
        })
    }

    /// Names of all presets.
    pub fn preset_names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, ..)| *name)
    }
}

const PRESETS: &[(&str, CpuKind, u32)] = &[
    ("shared-cpu-1x", CpuKind::Shared, 1),
    ("shared-cpu-2x", CpuKind::Shared, 2),
    ("shared-cpu-4x", CpuKind::Shared, 4),
    ("shared-cpu-6x", CpuKind::Shared, 6),
    ("shared-cpu-8x", CpuKind::Shared, 8),
    ("performance-1x", CpuKind::Performance, 1),
    ("performance-2x", CpuKind::Performance, 2),
    ("performance-4x", CpuKind::Performance, 4),
    ("performance-6x", CpuKind::Performance, 6),
    ("performance-8x", CpuKind::Performance, 8),
    ("performance-10x", CpuKind::Performance, 10),
    ("performance-12x", CpuKind::Performance, 12),
    ("performance-14x", CpuKind::Performance, 14),
    ("performance-16x", CpuKind::Performance, 16),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, cpus: u32, memory: u32) -> Result<(), String> {
        Size::new(Some(kind), Some(cpus), Some(memory))
            .map(drop)
            .map_err(|e| format!("{}: {e}", e.field))
    }

    #[test]
    fn sizes_that_are_allowed() {
        for (kind, cpus, memory) in [
            ("shared", 1, 256),
            ("shared", 1, 2048),
            ("shared", 2, 512),
            ("shared", 2, 4096),
            ("performance", 1, 2048),
            ("performance", 1, 8192),
            ("performance", 16, 131_072),
        ] {
            assert_eq!(check(kind, cpus, memory), Ok(()), "{kind} {cpus} {memory}");
        }
    }

    #[test]
    fn sizes_that_are_refused() {
        for (kind, cpus, memory, why) in [
            (
                "shared",
                2,
                256,
                "memory_mb: must be a multiple of 256 from 512 to 4096 for 2 shared CPUs, not 256",
            ),
            (
                "shared",
                2,
                4352,
                "memory_mb: must be a multiple of 256 from 512 to 4096 for 2 shared CPUs, not 4352",
            ),
            (
                "shared",
                2,
                700,
                "memory_mb: must be a multiple of 256 from 512 to 4096 for 2 shared CPUs, not 700",
            ),
            (
                "performance",
                1,
                1024,
                "memory_mb: must be a multiple of 2048 from 2048 to 8192 for 1 performance CPUs, not 1024",
            ),
            ("shared", 3, 1024, "cpus: must be one of 1, 2, 4, 6, 8, 16 for shared CPUs, not 3"),
            ("shared", 0, 256, "cpus: must be one of 1, 2, 4, 6, 8, 16 for shared CPUs, not 0"),
            ("gpu", 1, 256, "cpu_kind: must be shared or performance, not \"gpu\""),
        ] {
            assert_eq!(check(kind, cpus, memory), Err(why.into()));
        }
    }

    #[test]
    fn absent_values_get_their_defaults() {
        assert_eq!(Size::new(None, None, None), Ok(Size::DEFAULT));
        assert_eq!(Size::new(None, Some(4), None).unwrap().memory_mb, 1024);
        assert_eq!(Size::new(Some("performance"), None, None).unwrap().memory_mb, 2048);
    }

    #[test]
    fn every_preset_is_allowed() {
        for name in Size::preset_names() {
            let Size { kind, cpus, memory_mb } = Size::preset(name).unwrap();
            assert_eq!(check(kind.as_str(), cpus, memory_mb), Ok(()), "{name}");
        }
        assert_eq!(Size::preset("shared-cpu-3x"), None);
    }
}
