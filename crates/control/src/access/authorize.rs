//! Compares what a call needs with what its caller has.

use super::need::{Need, Subject};
use super::permit::{app_access, base, forbidden};
use crate::{Error, Platform, Rights, lookup};
use macaroon::{Access, Command};

/// The parts of a path that name the subject of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Slug of the organization.
    pub(crate) org: Option<String>,
    /// Name of the app.
    pub(crate) app: Option<String>,
    /// Id or name of the machine.
    pub(crate) machine: Option<String>,
    /// Id of the volume.
    pub(crate) volume: Option<String>,
}

/// The caller of `platform` may make a call with this need at this place.
///
/// # Errors
/// It may not, and which permission it lacks; or the subject is not there for it.
pub(crate) async fn authorize(
    platform: &Platform,
    need: &Need,
    place: &Place,
) -> Result<(), Error> {
    if *platform.rights() == Rights::All || by_itself(platform, need, place) {
        return Ok(());
    }
    let refused = |subject: &str, refusal| Err(forbidden(need.action, subject, refusal));
    match need.subject {
        Subject::Open => Ok(()),
        Subject::Token | Subject::Several => match platform.rights() {
            Rights::Machine(_) => platform.rights().admin_only().or_else(|r| refused("this", r)),
            _ => Ok(()),
        },
        Subject::Platform => {
            platform.rights().admin_only().or_else(|refusal| refused("the platform", refusal))
        }
        Subject::Org => {
            let slug = place.org.as_deref().unwrap_or_default();
            let org = lookup::org(platform, slug).await?;
            let feature = need.feature.map(str::to_owned);
            let access = Access { org: Some(u64::from(org.id.0)), ..base(platform, need.action) };
            if platform.rights().is_hidden(&access) {
                return Err(lookup::no_org(slug));
            }
            let access = Access { org_feature: feature, ..access };
            let subject = named(&format!("organization {slug:?}"), need.feature);
            platform.rights().check(&access).or_else(|refusal| refused(&subject, refusal))
        }
        Subject::App | Subject::Machine | Subject::Volume => {
            let (access, subject) = below_app(platform, need, place).await?;
            platform.rights().check(&access).or_else(|refusal| refused(&subject, refusal))
        }
    }
}

/// A machine without a token that makes a call about itself. That the path names the app of
/// the machine is found out by the operation, which finds no machine elsewhere.
fn by_itself(platform: &Platform, need: &Need, place: &Place) -> bool {
    let Rights::Machine(own) = platform.rights() else { return false };
    let named = place.machine.as_deref();
    need.by_itself && named.is_none_or(|named| named == own.to_string())
}

/// The access of a call about an app or a part of it, and the subject in words.
async fn below_app(
    platform: &Platform,
    need: &Need,
    place: &Place,
) -> Result<(Access, String), Error> {
    let name = place.app.as_deref().unwrap_or_default();
    let app = lookup::app(platform, name).await?.record;
    let access = app_access(platform, &app, need.action).await?;
    if platform.rights().is_hidden(&access) {
        return Err(Error::no_app(name));
    }
    let feature = need.feature.map(str::to_owned);
    let subject = format!("app {name:?}");
    let (access, subject) = match need.subject {
        Subject::Machine => {
            let named = place.machine.as_deref().unwrap_or_default();
            let subject = format!("machine {:?} of {subject}", crate::error::shortened(named, 80));
            // A name that leads nowhere is refused or not found, as the caller's rights are.
            let id = lookup::machine(platform, name, named).await.map(|found| found.id.to_string());
            let machine = Some(id.unwrap_or_else(|_| named.to_owned()));
            let command = if need.runs_command { Command::Some } else { Command::None };
            (Access { machine, machine_feature: feature, command, ..access }, subject)
        }
        Subject::Volume => {
            let volume = place.volume.clone().or_else(|| Some(String::new()));
            let id = crate::error::shortened(volume.as_deref().unwrap_or_default(), 80);
            (Access { volume, ..access }, format!("volume {id:?} of {subject}"))
        }
        _ => (Access { app_feature: feature, ..access }, subject),
    };
    Ok((access, named(&subject, need.feature)))
}

fn named(subject: &str, feature: Option<&str>) -> String {
    match feature {
        Some(feature) => format!("{feature} of {subject}"),
        None => subject.to_owned(),
    }
}
