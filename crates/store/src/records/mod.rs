//! Typed records of the global store and their keys, one file per subject.
//!
//! ```text
//! /orgs/<slug>                       OrgRecord
//! /networks/<org>/<name>             NetworkRecord; the number is never used again
//! /counters/<name>                   last number that was allocated
//! /apps/<app>                        AppRecord
//! /idempotency/apps/<org>/<key>      name of the app that was created with the key
//! /machine-names/<app>/<name>        NameRecord: which machine has the name
//! /machines/<id>                     MachineRecord: the app of a machine
//! /tokens/<sha256>                   TokenRecord; the token itself is not stored
//! ```
//!
//! Invariant: `/machine-names` and `/machines` are written in one transaction
//! before the host is asked to create the machine, so that a machine that exists
//! has an owner here. The claim of a machine that its host does not know is
//! removed by a reconciler.

mod access;
mod apps;
mod keys;
mod machines;
mod orgs;
mod tokens;

pub use access::{Stored, decode, encode, get, list};
pub use apps::AppRecord;
pub use keys::*;
pub use machines::{MachineRecord, NameRecord};
pub use orgs::{NetworkRecord, OrgRecord};
pub use tokens::TokenRecord;
