//! Machines: claim and create, list, read, update, start and stop, labels, leases, waits.
//! Each operation resolves the machine's record and asks the host that owns it.

mod batch;
mod create;
mod leases;
mod lifecycle;
mod list;
mod memory;
mod metadata;
mod patch;
mod read;
mod record;
mod runs;
mod update;
mod wait;

pub use batch::{MAX_BATCH, create_batch};
pub use create::create;
pub(crate) use create::{
    CLAIM_LIFETIME, Confirmations, Release, destroy_unowned, forget, holds_name,
    is_abandoned_claim, release,
};
pub use leases::{acquire as acquire_lease, get as lease, release as release_lease};
pub use lifecycle::{
    busy, cordon, destroy, end_busy, hold_busy, restart, signal, start, stop, suspend,
};
pub use list::{ListFilter, OrgFilter, list, list_org};
pub(crate) use list::{count_by_app, list_app};
pub use memory::{get as memory, limit as limit_memory, reclaim as reclaim_memory};
pub use metadata::{change as change_metadata, get as metadata};
pub use patch::patch;
pub use read::{checks, events, get, processes, versions};
pub(crate) use record::update_record;
pub use runs::{run_now, runs};
pub use update::update;
pub use wait::{WaitRequest, wait};
