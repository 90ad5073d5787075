//! `host.db`: the truth about this host's machines. `host_db` is the file, `schema` its tables;
//! the other files add to `HostDb` the reads and writes of one subject each.

mod events;
mod host_db;
mod leases;
mod log_exports;
mod machines;
pub(crate) mod runs;
mod schema;
mod secrets;
mod volumes;

pub(crate) use events::{CHECK_EVENT, EventNumbers, EventPage};
pub(crate) use host_db::HostDb;
pub(crate) use leases::LeaseChange;
pub(crate) use machines::{AddError, Change, Machines, SaveError, UnreadableRow};
pub(crate) use secrets::SealedSecrets;
pub(crate) use volumes::VolumeChange;
