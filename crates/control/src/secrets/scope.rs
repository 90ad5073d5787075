//! The machines that a secret is for.

use crate::{Error, Kind, Platform, lookup};
use model::id::MachineId;
use wire::secrets::SecretScope;

/// Bytes of the name of a process group.
const MAX_GROUP: usize = 63;

/// Checks a scope, and replaces the name of a machine by its id. With `may_be_gone` the
/// machine need not exist any more, so that its secrets can be removed.
pub(crate) async fn resolve(
    platform: &Platform,
    app: &str,
    scope: Option<SecretScope>,
    may_be_gone: bool,
) -> Result<Option<SecretScope>, Error> {
    Ok(match scope {
        None => None,
        Some(SecretScope::Group(group)) => {
            let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if group.is_empty() || group.len() > MAX_GROUP || !group.chars().all(valid) {
                let rule = "must be 1 to 63 letters, digits, dashes and underscores";
                return Err(Error::invalid("scope.group", rule));
            }
            Some(SecretScope::Group(group))
        }
        Some(SecretScope::Machine(machine)) => {
            let id = match lookup::machine(platform, app, &machine).await {
                Ok(found) => found.id,
                Err(err) if err.kind == Kind::NotFound && may_be_gone => {
                    machine.parse::<MachineId>().map_err(|_| err)?
                }
                Err(err) => return Err(err),
            };
            Some(SecretScope::Machine(id.to_string()))
        }
    })
}
