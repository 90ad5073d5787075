//! Records of requests: written before a request is carried out and after it has been
//! answered, and removed after a day.

use super::RequestId;
use crate::{Error, Kind, Platform};
use std::time::Duration;
use store::records::{self, RecordedAnswer, RequestRecord, Stored, encode};
use store::{Op, Txn};

/// How long a request is remembered.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Records that are removed in one transaction.
const MAX_STEPS: usize = 100;

/// What is known of a request before it is carried out.
#[derive(Debug)]
pub(crate) enum Begun {
    /// Nothing: it is the first one.
    First,
    /// It was begun, and its end is not known.
    Unfinished,
    /// It has been answered.
    Answered(RecordedAnswer),
}

/// A request with a key.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    pub(crate) id: RequestId,
    /// What its repetition must have in common with it.
    pub(crate) fingerprint: String,
    /// The party whose share of the records it is counted in.
    pub(crate) caller: String,
}

/// Records that a request begins. The caller holds the request's turn.
///
/// # Errors
/// The key was used for another request, or too many are remembered.
pub(crate) async fn begin(platform: &Platform, request: &Keyed) -> Result<Begun, Error> {
    let key = records::request_key(request.id.as_str());
    let known: Option<Stored<RequestRecord>> = records::get(platform.store(), &key).await?;
    let is_new = known.is_none();
    let known = known.map(|stored| stored.record).filter(|record| !is_old(platform, record));
    match known {
        Some(record) if record.fingerprint != request.fingerprint => {
            let why = "the key was used for another request (method, path or body differ)";
            Err(Error::invalid("Idempotency-Key", why).hint("use a new key for each request"))
        }
        Some(RequestRecord { answer: Some(answer), .. }) => Ok(Begun::Answered(answer)),
        Some(_) => Ok(Begun::Unfinished),
        None => {
            if is_new {
                check_room(platform, &request.caller)?;
            }
            write(platform, request, None).await?;
            if is_new {
                platform.turns().kept().add(&request.caller);
            }
            Ok(Begun::First)
        }
    }
}

fn check_room(platform: &Platform, caller: &str) -> Result<(), Error> {
    let Some((most, whose)) = platform.turns().kept().exceeded(caller) else { return Ok(()) };
    let why = format!("{most} requests {whose} with idempotency keys are remembered already");
    let hint = "send it without a key, or try again later: keys are kept for 24 hours";
    Err(Error::new(Kind::Busy, why).hint(hint))
}

/// Records the answer to a request.
///
/// # Errors
/// The store's.
pub(crate) async fn finish(
    platform: &Platform,
    request: &Keyed,
    answer: RecordedAnswer,
) -> Result<(), Error> {
    write(platform, request, Some(answer)).await
}

/// Forgets a request that has changed nothing.
///
/// # Errors
/// The store's.
pub(crate) async fn forget(platform: &Platform, request: &Keyed) -> Result<(), Error> {
    let then = vec![Op::delete(records::request_key(request.id.as_str()))];
    platform.store().txn(Txn { then, ..Txn::default() }).await?;
    platform.turns().kept().remove(&request.caller);
    Ok(())
}

/// Forgets requests of more than a day ago, and counts the others.
///
/// # Errors
/// The store's.
pub(crate) async fn forget_old(platform: &Platform) -> Result<(), Error> {
    let listed = crate::lookup::list::<RequestRecord>(platform, records::REQUESTS).await?;
    let (old, kept): (Vec<_>, Vec<_>) =
        listed.records.into_iter().partition(|stored| is_old(platform, &stored.record));
    let deletes: Vec<Op> = old.into_iter().map(|stored| Op::delete(stored.key)).collect();
    for part in deletes.chunks(MAX_STEPS) {
        platform.store().txn(Txn { then: part.to_vec(), ..Txn::default() }).await?;
    }
    platform.turns().kept().set(kept.iter().map(|stored| stored.record.caller.as_str()));
    Ok(())
}

fn is_old(platform: &Platform, record: &RequestRecord) -> bool {
    let age = platform.clock().now_ms().saturating_sub(record.begun_ms);
    u128::from(age) > KEPT.as_millis()
}

async fn write(
    platform: &Platform,
    request: &Keyed,
    answer: Option<RecordedAnswer>,
) -> Result<(), Error> {
    let record = RequestRecord {
        fingerprint: request.fingerprint.clone(),
        begun_ms: platform.clock().now_ms(),
        caller: request.caller.clone(),
        answer,
    };
    let then = vec![Op::put(records::request_key(request.id.as_str()), encode(&record))];
    platform.store().txn(Txn { then, ..Txn::default() }).await?;
    Ok(())
}
