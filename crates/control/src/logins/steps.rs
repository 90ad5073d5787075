//! The steps of a login.

use super::open::Login;
use crate::error::shortened;
use crate::{Error, Kind, Platform, tokens};
use std::collections::VecDeque;
use subtle::ConstantTimeEq;
use wire::secret::Secret;

/// Logins that may be open; the oldest makes room. Anyone may begin one.
const MOST: usize = 256;
/// Characters of the name of a client.
const MAX_NAME: usize = 100;
/// Longest token.
const MAX_TOKEN: usize = 16 * 1024;

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
