//! What may be asked for, and where it goes; pure.

mod checks;
mod config;
mod files;
mod placement;
mod services;
mod words;

pub use config::{Complaint, check, complete, warnings};
pub use placement::{Refusal, Wanted, candidates, free};
pub use words::split;

use config::Complaints;
pub(crate) use config::{LONGEST_STOP, metadata_entry};
