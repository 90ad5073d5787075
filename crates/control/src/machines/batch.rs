//! Several creates in one request. Each stands by itself: one that fails does not undo the
//! others.

use super::create::create;
use crate::{Error, Platform, lookup};
use futures_util::stream::{self, StreamExt};
use wire::machines::{LaunchMachine, Machine};

/// Creates of one batch.
pub const MAX_BATCH: usize = 100;
/// Creates that are carried out at once.
const AT_ONCE: usize = 8;

/// Creates machines; the results are in the order of the requests.
///
/// # Errors
/// There is no such app, or too many are requested.
pub async fn create_batch(
    platform: &Platform,
    app: &str,
    launches: Vec<Result<LaunchMachine, Error>>,
) -> Result<Vec<Result<Machine, Error>>, Error> {
    if launches.is_empty() || launches.len() > MAX_BATCH {
        return Err(Error::invalid("machines", format!("must have from 1 to {MAX_BATCH} entries")));
    }
    lookup::app(platform, app).await?;
    let creates = launches.into_iter().enumerate().map(|(number, launch)| {
        // Of a request with an idempotency key each create has a key of its own.
        let own = platform.for_request(platform.request().map(|request| request.part(number)));
        async move { create(&own, app, launch?).await }
    });
    Ok(stream::iter(creates).buffered(AT_ONCE).collect().await)
}
