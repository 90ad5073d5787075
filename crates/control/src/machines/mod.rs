//! Machines: claim and create, list, read, update, start and stop, labels, leases, waits.
//! Each operation resolves the machine's record and asks the host that owns it.

mod busy;
mod create;
mod images;
mod leases;
mod lifecycle;
mod list;
mod metadata;
mod read;
mod record;
mod update;
mod wait;

pub use busy::{busy, end_busy, hold_busy};
pub use create::create;
pub(crate) use create::{
    CLAIM_LIFETIME, Confirmations, Release, destroy_unowned, forget, holds_name,
    is_abandoned_claim, release,
};
pub use leases::{acquire as acquire_lease, get as lease, release as release_lease};
pub use lifecycle::{cordon, destroy, restart, signal, start, stop, suspend};
pub use list::{ListFilter, list};
pub(crate) use list::{count_by_app, list_app};
pub use metadata::{change as change_metadata, get as metadata};
pub use read::{checks, events, get, processes, versions};
pub(crate) use record::update_record;
pub use update::update;
pub use wait::{WaitRequest, wait};
