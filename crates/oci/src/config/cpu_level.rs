//! Microarchitecture levels of x86-64, by the x86-64 psABI
//! (<https://gitlab.com/x86-psABIs/x86-64-ABI>). OCI indexes name them as
//! variants of `amd64`.

use std::fmt;

/// A microarchitecture level of x86-64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CpuLevel {
    /// The baseline.
    #[default]
    V1,
    /// With SSE4.2, SSSE3, POPCNT and CMPXCHG16B.
    V2,
    /// With AVX2, BMI2 and FMA.
    V3,
    /// With AVX-512 F, BW, CD, DQ and VL.
    V4,
}

impl CpuLevel {
    /// The level of this host's CPU.
    #[cfg(target_arch = "x86_64")]
    pub fn of_this_host() -> Self {
        use std::arch::is_x86_feature_detected as has;
        let v2 = has!("sse3")
            && has!("ssse3")
            && has!("sse4.1")
            && has!("sse4.2")
            && has!("popcnt")
            && has!("cmpxchg16b");
        let v3 = has!("avx")
            && has!("avx2")
            && has!("bmi1")
            && has!("bmi2")
            && has!("f16c")
            && has!("fma")
            && has!("lzcnt")
            && has!("movbe");
        let v4 = has!("avx512f")
            && has!("avx512bw")
            && has!("avx512cd")
            && has!("avx512dq")
            && has!("avx512vl");
        match (v2, v3, v4) {
            (true, true, true) => Self::V4,
            (true, true, false) => Self::V3,
            (true, false, _) => Self::V2,
            (false, _, _) => Self::V1,
        }
    }

    /// The level of this host's CPU, which is no x86-64: the baseline, as
    /// emulated guests have it.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn of_this_host() -> Self {
        Self::V1
    }

    /// The level that a platform's `variant` names; without a variant the baseline.
    pub(crate) fn of_variant(variant: &str) -> Option<Self> {
        match variant {
            "" | "v1" => Some(Self::V1),
            "v2" => Some(Self::V2),
            "v3" => Some(Self::V3),
            "v4" => Some(Self::V4),
            _ => None,
        }
    }
}

impl fmt::Display for CpuLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "x86-64-v1",
            Self::V2 => "x86-64-v2",
            Self::V3 => "x86-64-v3",
            Self::V4 => "x86-64-v4",
        })
    }
}
