//! Releases. There are no records of them yet: an app that has machines has one, which is derived
//! from its newest machine and has the version 0.

use super::super::session::{Newest, Session};
use super::user::user;
use crate::access::{base, is_permitted};
use crate::machines::{self, OrgFilter};
use crate::{Error, lookup};
use macaroon::{Access, Action};
use serde_json::{Value, json};
use std::collections::HashMap;
use wire::machines::{App, Machine};

/// The release that is derived from the newest machine of an app.
pub(super) fn derived(app: &App, newest: &Machine) -> Value {
    json!({
        "id": format!("{}-v0", app.name),
        "version": 0,
        "description": "Derived from the app's newest machine",
        "reason": "",
        "status": "complete",
        "stable": true,
        "inProgress": false,
        "evaluationId": null,
        "imageRef": image_of(newest),
        "configDefinition": null,
        "createdAt": newest.created_at,
        "user": user("updraft"),
    })
}

/// The image of a machine as its config names it, else as it was resolved.
fn image_of(machine: &Machine) -> String {
    let config = machine.config.as_ref().or(machine.incomplete_config.as_ref());
    if let Some(config) = config.filter(|config| !config.image.is_empty()) {
        return config.image.clone();
    }
    let image = &machine.image_ref;
    let tag = if image.tag.is_empty() { String::new() } else { format!(":{}", image.tag) };
    format!("{}/{}{tag}", image.registry, image.repository)
}

/// The newest machines of an organization's apps; `None` if the caller may not read the
/// organization.
///
/// # Errors
/// They could not be listed.
pub(super) async fn newest_of_org(session: &Session, org: &str) -> Result<Option<Newest>, Error> {
    let platform = &session.platform;
    let id = u64::from(lookup::org(platform, org).await?.id.0);
    if !is_permitted(platform, &Access { org: Some(id), ..base(platform, Action::READ) }) {
        return Ok(None);
    }
    session.newest(org, list(session, org)).await.map(Some)
}

async fn list(session: &Session, org: &str) -> Result<HashMap<String, Machine>, Error> {
    let mut newest: HashMap<String, Machine> = HashMap::new();
    let mut filter = OrgFilter { summary: true, ..OrgFilter::default() };
    loop {
        let page = machines::list_org(&session.platform, org, filter.clone()).await?;
        for listed in page.machines {
            let known = newest.get(&listed.app_name);
            if known.is_none_or(|known| known.created_at <= listed.machine.created_at) {
                newest.insert(listed.app_name, listed.machine);
            }
        }
        if page.next_cursor.is_empty() {
            return Ok(newest);
        }
        filter.cursor = Some(page.next_cursor);
    }
}
