//! Volumes: disks that outlive machines. [`life`] has their states; here are the rules of their
//! names, sizes and file systems.

mod life;
mod name;

pub use life::{Event, Refused, State};
pub use name::{BadName, VolumeName};

/// Sizes of a volume in GiB (<https://fly.io/docs/volumes/overview/>).
pub const SIZES_GB: std::ops::RangeInclusive<u32> = 1..=500;

/// Size of a volume if none is asked for
/// (<https://fly.io/docs/machines/api/volumes-resource/>).
pub const DEFAULT_SIZE_GB: u32 = 3;

/// Days that a snapshot can be kept, and those if none are asked for.
pub const RETENTION_DAYS: std::ops::RangeInclusive<u32> = 1..=60;

/// Days that a snapshot is kept if none are asked for.
pub const DEFAULT_RETENTION_DAYS: u32 = 5;

/// Most volumes of one machine.
pub const MAX_MOUNTS: usize = 8;

/// What is on a new volume.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum FileSystem {
    /// An ext4 file system, mounted before the app starts.
    #[default]
    Ext4,
    /// Nothing: the app gets a block device.
    Raw,
}

impl FileSystem {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Raw => "raw",
        }
    }

    /// From the word of the API; empty is the default.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "" | "ext4" => Some(Self::Ext4),
            "raw" => Some(Self::Raw),
            _ => None,
        }
    }
}
