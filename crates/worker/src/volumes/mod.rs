//! Volumes of the host: disks that outlive machines. `row` is a volume as `host.db` has it,
//! `disks` are their files, `sizes` what is shown of them with their machines, `attached` what a
//! boot is given of them, and `recovery` finishes what a killed daemon left.

pub(crate) mod attached;
pub(crate) mod disks;
pub(crate) mod recovery;
pub(crate) mod row;
pub(crate) mod sizes;
