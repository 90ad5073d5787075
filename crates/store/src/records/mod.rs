//! Typed records of the global store and their keys, one file per subject.
//!
//! ```text
//! /schema                            version of this layout
//! /orgs/<slug>                       OrgRecord
//! /networks/<org>/<name>             NetworkRecord; the number is never used again
//! /counters/<name>                   last number that was allocated
//! /apps/<name>                       AppRecord
//! /idempotency-keys/<org id>/<key>   name of the app that was created with the key
//! /names/<app id>/<name>             NameRecord: which machine has the name
//! /machines/<id>                     MachineRecord
//! /app-machines/<app id>/<id>        the ids of an app's machines; no value
//! /released/<id>                     ReleasedRecord: the machine has no owner any more
//! /requests/<sha256>                 RequestRecord, by caller and idempotency key
//! /secrets/<app id>                  AppSecretsRecord, values sealed
//! /secret-keys/<app id>              SecretKeysRecord, keys sealed
//! /app-releases/<app id>             AppReleasesRecord: its releases without their content
//! /releases/<release id>             ReleaseContentRecord, which names the app
//! /app-builds/<app id>               AppBuildsRecord
//! /volumes/<id>                      VolumeRecord, written before the host is asked to make it
//! /app-volumes/<app id>/<id>         the ids of an app's volumes; no value
//! /tokens/<sha256>                   TokenRecord; the token itself is not stored
//! /org-tokens/<org id>/<sha256>      the tokens of an organization; no value
//! /token-uses/<sha256>               TokenUseRecord: its last use
//! /members/<org id>/<email>          MemberRecord
//! /wireguard-peers/<org id>/<name>   WireGuardPeerRecord
//! /wireguard-addresses/<network>/<address>  an address that a peer has; no value
//! ```
//!
//! Apps and organizations are referred to by id: a name may be used again once
//! its app is gone, an id never is, so that nothing of a former app is ever taken
//! for the new one's.
//!
//! Invariant: `/names`, `/machines` and `/app-machines` are written in one
//! transaction before the host is asked to create the machine, so that a machine
//! that exists has an owner here. The claim of a machine that its host does not
//! know is removed by a reconciler. Where a record of `/machines` is deleted although
//! some host may still have the machine, `/released` records that in the same transaction:
//! only such a machine may be destroyed without a record. A machine that the store
//! has no record of is of another store.

mod access;
mod apps;
mod keys;
mod machines;
mod migrate;
mod orgs;
mod releases;
mod requests;
mod secrets;
mod tokens;
mod volumes;
mod wireguard;

pub use access::{Listed, Stored, decode, encode, get, list, list_readable};
pub use apps::AppRecord;
pub use keys::*;
pub use machines::{MachineRecord, NameRecord, ReleasedRecord};
pub use migrate::migrate;
pub use orgs::{MemberRecord, NetworkRecord, OrgRecord};
pub use releases::{
    AppBuildsRecord, AppReleasesRecord, BuildRecord, ReleaseContentRecord, ReleaseRecord,
};
pub use requests::{RecordedAnswer, RequestRecord};
pub use secrets::{AppSecretsRecord, SecretKeyRecord, SecretKeysRecord, SecretRecord};
pub use tokens::{TokenRecord, TokenUseRecord};
pub use volumes::VolumeRecord;
pub use wireguard::WireGuardPeerRecord;
