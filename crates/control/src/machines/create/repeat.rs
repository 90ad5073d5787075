//! A create that is repeated with its idempotency key: what the earlier try has left.

use super::claim::Claim;
use crate::hosts::{self, READ_TIMEOUT, within};
use crate::idempotency::RequestId;
use crate::{Error, Kind, Platform};
use host_api::HostError;
use model::id::MachineId;
use store::records::{self, AppRecord, MachineRecord, ReleasedRecord, Stored};
use wire::machines::Machine;

/// Ids of a request that are tried: another one after each claim that was released while its
/// host could still create the machine.
const MAX_ATTEMPTS: u32 = 16;

/// What is there of a create.
pub(super) enum Found {
    /// Nothing; the machine gets this id.
    Free(MachineId),
    /// Its claim. The host that it names does not have the machine.
    Claimed(Box<Claim>),
    /// The machine.
    Made(Box<Claim>, Box<Machine>),
}

pub(super) async fn find(
    platform: &Platform,
    request: &RequestId,
    app: &AppRecord,
) -> Result<Found, Error> {
    for attempt in 0..MAX_ATTEMPTS {
        let id = request.machine_id(attempt);
        let stored: Option<Stored<MachineRecord>> =
            records::get(platform.store(), &records::machine_key(id)).await?;
        let Some(Stored { revision, record, .. }) = stored else {
            let key = records::released_key(id);
            let released: Option<Stored<ReleasedRecord>> =
                records::get(platform.store(), &key).await?;
            if released.is_some() {
                continue;
            }
            return Ok(Found::Free(id));
        };
        let host = hosts::get(platform, record.owner)?;
        let asked = host.machine(platform.context(READ_TIMEOUT), id);
        let claim = Box::new(Claim { id, app: app.clone(), record, revision });
        return match within(READ_TIMEOUT, asked).await {
            Ok(machine) => Ok(Found::Made(claim, Box::new(machine))),
            Err(HostError::NotFound(_)) if !claim.record.created => Ok(Found::Claimed(claim)),
            Err(err) => Err(err.into()),
        };
    }
    let why = "the machine was created and released too often for one idempotency key";
    Err(Error::new(Kind::Conflict, why).hint("use a new key"))
}
