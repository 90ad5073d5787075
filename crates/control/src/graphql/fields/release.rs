//! Releases. An app that has machines and no record of a release has one all the same, which is
//! derived from its newest machine and has the version 0.

use super::super::answer::{Answer, Args, Fields};
use super::super::session::{Newest, Session};
use super::user::user;
use crate::access::{base, is_permitted};
use crate::machines::{self, OrgFilter};
use crate::{Error, lookup, releases};
use async_trait::async_trait;
use macaroon::{Access, Action};
use model::id::AppId;
use model::release::{Status, Strategy};
use rt::clock::rfc3339;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use store::records::{AppReleasesRecord, ReleaseContentRecord, ReleaseRecord};
use tokio::sync::OnceCell;
use wire::machines::{App, Machine};

/// The releases of the apps of one answer, read together when the first of them is asked for.
#[derive(Debug)]
pub(super) struct ReleasesOfApps {
    apps: Vec<AppId>,
    read: OnceCell<HashMap<AppId, Arc<AppReleasesRecord>>>,
}

impl ReleasesOfApps {
    /// Those of these apps, which the caller may read.
    pub(super) fn new(apps: Vec<AppId>) -> Arc<Self> {
        Arc::new(Self { apps, read: OnceCell::new() })
    }

    /// Those of one of the apps.
    ///
    /// # Errors
    /// The store failed.
    pub(super) async fn of(
        &self,
        session: &Session,
        app: AppId,
    ) -> Result<Arc<AppReleasesRecord>, Error> {
        let read = async || {
            let all = releases::of_apps(&session.platform, &self.apps).await?;
            Ok::<_, Error>(all.into_iter().map(|(app, all)| (app, Arc::new(all))).collect())
        };
        let all: &HashMap<AppId, Arc<AppReleasesRecord>> = self.read.get_or_try_init(read).await?;
        Ok(all.get(&app).cloned().unwrap_or_default())
    }
}

/// A release that is recorded, of an app that the caller may read.
pub(super) struct Release {
    record: ReleaseRecord,
    /// Read when it is asked for.
    content: OnceCell<Option<ReleaseContentRecord>>,
}

impl Release {
    /// The release with a record.
    pub(super) fn new(record: ReleaseRecord) -> Self {
        Self { record, content: OnceCell::new() }
    }

    /// The config of the app that it deploys; null if it has been removed meanwhile.
    pub(super) async fn definition(&self, session: &Session) -> Result<Value, Error> {
        let content = self.content(session).await?;
        Ok(content.map(|content| content.definition.clone()).unwrap_or_default())
    }

    async fn content(&self, session: &Session) -> Result<Option<&ReleaseContentRecord>, Error> {
        let read = || releases::content(&session.platform, self.record.id);
        Ok(self.content.get_or_try_init(read).await?.as_ref())
    }
}

#[async_trait]
impl Fields for Release {
    fn type_name(&self) -> &'static str {
        "Release"
    }

    async fn field(&self, session: &Session, name: &str, _: &Args) -> Result<Answer, Error> {
        let record = &self.record;
        Ok(Answer::Json(match name {
            "id" => json!(record.id),
            "version" => json!(record.version),
            "description" => json!(record.description),
            "reason" => json!(record.reason),
            "status" => json!(record.status),
            "stable" => json!(record.status == Status::Complete),
            "inProgress" => json!(record.status.is_in_progress()),
            "deploymentStrategy" => json!(record.strategy),
            "evaluationId" => Value::Null,
            "imageRef" if record.image.is_empty() => Value::Null,
            "imageRef" => json!(record.image),
            "createdAt" => json!(rfc3339(record.created_ms)),
            "user" => user(&record.user),
            "configDefinition" => self.definition(session).await?,
            "metadata" => {
                let content = self.content(session).await?;
                content.map(|content| content.metadata.clone()).unwrap_or_default()
            }
            _ => return Err(Error::internal(format!("Release has no field {name}"))),
        }))
    }
}

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
        "deploymentStrategy": Strategy::default(),
        "evaluationId": null,
        "imageRef": image_of(newest),
        "configDefinition": null,
        "metadata": null,
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
