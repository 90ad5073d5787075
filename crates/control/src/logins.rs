//! Logins of clients: a client begins one, its user gives a token on a page, and the client
//! fetches the token (<https://fly.io/docs/flyctl/auth-login/>).
//!
//! Logins are kept in memory only: one that was begun before a restart is begun again. The id of
//! a login is as secret as the token that is given to it.

use crate::error::shortened;
use crate::{Error, Kind, Platform, tokens};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq;
use wire::secret::Secret;

/// How long a login may take.
const MAY_TAKE: Duration = Duration::from_secs(15 * 60);
/// Logins that may be open; the oldest makes room. Anyone may begin one.
const MOST: usize = 256;
/// Characters of the name of a client.
const MAX_NAME: usize = 100;
/// Longest token.
const MAX_TOKEN: usize = 16 * 1024;

/// The logins that are open, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    begun: Mutex<VecDeque<Login>>,
}

#[derive(Debug)]
struct Login {
    id: String,
    /// Name of the client's machine.
    client: String,
    begun_ms: u64,
    token: Option<Secret>,
}

impl Logins {
    /// Those that have not taken too long.
    fn lock(&self, now_ms: u64) -> MutexGuard<'_, VecDeque<Login>> {
        let mut open = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = u64::try_from(MAY_TAKE.as_millis()).unwrap_or(u64::MAX);
        open.retain(|login| now_ms.saturating_sub(login.begun_ms) < longest);
        open
    }
}

/// Begins a login; its id.
pub(crate) fn begin(platform: &Platform, client: &str) -> String {
    let now_ms = platform.clock().now_ms();
    let id = hex::encode(platform.rng().bytes(24));
    let client = shortened(client, MAX_NAME);
    let mut open = platform.logins().lock(now_ms);
    if open.len() == MOST {
        open.pop_front();
    }
    open.push_back(Login { id: id.clone(), client, begun_ms: now_ms, token: None });
    id
}

/// The name of the client that has begun a login.
///
/// # Errors
/// There is no such login, or it is complete.
pub(crate) fn client(platform: &Platform, id: &str) -> Result<String, Error> {
    let mut open = platform.logins().lock(platform.clock().now_ms());
    let login = find(&mut open, id).filter(|login| login.token.is_none());
    login.map(|login| login.client.clone()).ok_or_else(gone)
}

/// Gives a token to a login.
///
/// # Errors
/// There is no such login, it is complete, or the token is not valid.
pub(crate) async fn complete(platform: &Platform, id: &str, token: &str) -> Result<(), Error> {
    client(platform, id)?;
    let token = valid(platform, token).await?;
    let mut open = platform.logins().lock(platform.clock().now_ms());
    let login = find(&mut open, id).filter(|login| login.token.is_none());
    login.ok_or_else(gone)?.token = Some(token);
    Ok(())
}

/// The token of a login, once.
///
/// # Errors
/// There is no such login, or none was given yet.
pub(crate) fn take(platform: &Platform, id: &str) -> Result<Secret, Error> {
    let mut open = platform.logins().lock(platform.clock().now_ms());
    let login = find(&mut open, id).ok_or_else(gone)?;
    let token = login.token.take().ok_or_else(|| Error::not_found("the login is not complete"))?;
    open.retain(|login| !is_it(login, id));
    Ok(token)
}

/// The text of a token that is valid, without what may stand around it.
///
/// # Errors
/// It is not valid.
pub(crate) async fn valid(platform: &Platform, token: &str) -> Result<Secret, Error> {
    let text = token.trim();
    if text.is_empty() || text.len() > MAX_TOKEN {
        return Err(Error::invalid("token", format!("must have 1 to {MAX_TOKEN} bytes")));
    }
    let found = tokens::authenticate(platform, &format!("Bearer {text}")).await?;
    found.map_err(|why| Error::new(Kind::Unauthorized, format!("unauthorized: {}", why.text())))?;
    Ok(Secret::new(text))
}

fn find<'a>(open: &'a mut VecDeque<Login>, id: &str) -> Option<&'a mut Login> {
    open.iter_mut().find(|login| is_it(login, id))
}

fn is_it(login: &Login, id: &str) -> bool {
    login.id.as_bytes().ct_eq(id.as_bytes()).into()
}

fn gone() -> Error {
    Error::not_found("there is no such login: it is complete, or was begun too long ago")
        .hint("begin it again: `fly auth login`")
}
