//! Whether the caller may do one thing, for operations on records that no path names.

use super::rights::Refusal;
use crate::{Error, Kind, Platform, lookup};
use macaroon::{Access, Action};
use store::records::AppRecord;

/// The part of every access of this caller that is not about a resource.
pub(crate) fn base(platform: &Platform, action: Action) -> Access {
    let now = platform.clock().now_ns() / 1_000_000_000;
    Access { action, now, ..platform.source().clone() }
}

/// An action on an app.
///
/// # Errors
/// Its organization is not there.
pub(crate) async fn app_access(
    platform: &Platform,
    app: &AppRecord,
    action: Action,
) -> Result<Access, Error> {
    let org = lookup::org(platform, &app.org).await?.id;
    let (org, app) = (Some(u64::from(org.0)), Some(u64::from(app.id.0)));
    Ok(Access { org, app, ..base(platform, action) })
}

/// Whether the caller may do it.
pub(crate) fn is_permitted(platform: &Platform, access: &Access) -> bool {
    platform.rights().check(access).is_ok()
}

/// The caller may do it. `subject` names the resource in the error.
///
/// # Errors
/// The caller may not, and what it lacks.
pub(crate) fn permit(platform: &Platform, access: &Access, subject: &str) -> Result<(), Error> {
    let refused = |refusal| forbidden(access.action, subject, refusal);
    platform.rights().check(access).map_err(refused)
}

/// The error of a refusal.
pub(super) fn forbidden(action: Action, subject: &str, refusal: Refusal) -> Error {
    let words = action.words();
    let (caller, why) = match refusal {
        Refusal { token: Some(token), denial: Some(denial) } => {
            (format!("token {token:?}"), denial.to_string())
        }
        Refusal { token: Some(token), denial: None } => {
            (format!("token {token:?}"), "the call needs an admin token".to_owned())
        }
        Refusal { token: None, .. } => ("a machine without a token".into(), "no token".into()),
    };
    Error::new(Kind::Forbidden, format!("forbidden: {caller} may not {words} {subject}: {why}"))
        .hint(format!("use a token with the permission to {words} {subject}"))
}
