//! Free space of the store's file system. Jobs check it before they write and
//! while they write, so that an image never takes the reserve.

use crate::error::{Error, Result, failed};
use camino::Utf8Path;
use worker::ports::PortError;

/// Refuses a job that `purpose` names unless the file system of `dir` has room
/// for `needed` bytes beside the `reserve`.
pub(crate) fn require(dir: &Utf8Path, needed: u64, reserve: u64, purpose: &str) -> Result<()> {
    let stat = rustix::fs::statvfs(dir.as_std_path())
        .map_err(|err| failed("measure the free space of the image store")(err.into()))?;
    check(stat.f_bavail.saturating_mul(stat.f_frsize), needed, reserve, purpose)
}

fn check(free: u64, needed: u64, reserve: u64, purpose: &str) -> Result<()> {
    if needed.saturating_add(reserve) <= free {
        return Ok(());
    }
    Err(Error::Failed(PortError::plain(format!(
        "{purpose}: the disk of the image store has {} MiB free, {} MiB are needed and {} MiB \
         are kept in reserve; remove images that are not used, or enlarge the disk",
        free >> 20,
        needed.div_ceil(1 << 20),
        reserve >> 20
    ))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_without_room_is_refused_with_the_numbers() {
        assert!(check(300 << 20, 200 << 20, 100 << 20, "unpack").is_ok());
        let Err(Error::Failed(error)) = check(300 << 20, (200 << 20) + 1, 100 << 20, "unpack")
        else {
            panic!("it has no room")
        };
        assert_eq!(
            error.to_string(),
            "unpack: the disk of the image store has 300 MiB free, 201 MiB are needed and 100 MiB \
             are kept in reserve; remove images that are not used, or enlarge the disk"
        );
        assert!(check(u64::MAX, u64::MAX, 1, "unpack").is_ok());
    }
}
