//! Apps.

use super::super::answer::{Answer, Args, Fields};
use super::super::session::Session;
use super::machine::Machine;
use super::org::Org;
use super::release::{Release, ReleasesOfApps};
use super::{image, region, release, tokens};
use crate::access::{Subject, read};
use crate::machines::{self, ListFilter};
use crate::{Error, Kind, apps, lookup, secrets};
use async_trait::async_trait;
use model::id::AppId;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use store::records::{AppReleasesRecord, ReleaseRecord};
use tokio::sync::OnceCell;

/// An app that the caller may read.
#[derive(Clone)]
pub(super) struct App {
    app: wire::machines::App,
    /// It is an entry of a list.
    is_of_list: bool,
    /// Its machines, oldest first, once they have been listed.
    machines: Arc<OnceCell<Vec<wire::machines::Machine>>>,
    /// Its releases, and those of the other entries of its list.
    releases: Arc<ReleasesOfApps>,
}

impl App {
    /// An app by its name, which is its id, or by its number.
    ///
    /// # Errors
    /// There is none for the caller, or it may not read it.
    pub(super) async fn read(session: &Session, text: &str) -> Result<Self, Error> {
        let name = name_of(session, text).await?;
        let found = async {
            session.may_app(read(Subject::App), &name).await?;
            apps::get(&session.platform, &name).await
        };
        let app = found.await.map_err(|err| not_found_as(err, text))?;
        Ok(Self::made(app))
    }

    /// Entries of a list of apps that the caller may read.
    pub(super) fn list(apps: Vec<wire::machines::App>) -> impl Iterator<Item = Self> {
        let releases = ReleasesOfApps::new(apps.iter().map(number_of).collect());
        let entry = move |app| Self {
            app,
            is_of_list: true,
            machines: Arc::default(),
            releases: releases.clone(),
        };
        apps.into_iter().map(entry)
    }

    /// One that was made now.
    pub(super) fn made(app: wire::machines::App) -> Self {
        let releases = ReleasesOfApps::new(vec![number_of(&app)]);
        Self { app, is_of_list: false, machines: Arc::default(), releases }
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.app.name
    }

    /// Its organization.
    pub(super) fn org(&self) -> Org {
        Org::from(self.app.organization.clone())
    }

    async fn machines(&self, session: &Session) -> Result<&[wire::machines::Machine], Error> {
        if self.app.machine_count == 0 {
            return Ok(&[]);
        }
        let list = || machines::list(&session.platform, &self.app.name, ListFilter::default());
        self.machines.get_or_try_init(list).await.map(Vec::as_slice)
    }

    /// The newest machine. In a list of apps the machines of the whole organization are listed
    /// once.
    async fn newest(&self, session: &Session) -> Result<Option<wire::machines::Machine>, Error> {
        if self.is_of_list && self.app.machine_count > 0 {
            let newest = release::newest_of_org(session, &self.app.organization.slug).await?;
            if let Some(machine) = newest.as_ref().and_then(|newest| newest.get(&self.app.name)) {
                return Ok(Some(machine.clone()));
            }
            // The caller may not read the organization, or a host does not answer.
        }
        Ok(self.machines(session).await?.last().cloned())
    }

    /// Its releases that are recorded.
    async fn recorded(&self, session: &Session) -> Result<Arc<AppReleasesRecord>, Error> {
        self.releases.of(session, number_of(&self.app)).await
    }

    /// One of its releases; if none is recorded, that of its machines.
    async fn release(
        &self,
        session: &Session,
        which: fn(&AppReleasesRecord) -> Option<&ReleaseRecord>,
    ) -> Result<Answer, Error> {
        let recorded = self.recorded(session).await?;
        if !recorded.releases.is_empty() {
            let release = which(&recorded).cloned().map(Release::new);
            return Ok(release.map_or_else(Answer::null, Answer::node));
        }
        let newest = self.newest(session).await?;
        let derived = newest.map(|newest| release::derived(&self.app, &newest));
        Ok(derived.map_or_else(Answer::null, Answer::Json))
    }

    /// The newest release, whatever its status.
    pub(super) async fn newest_release(&self, session: &Session) -> Result<Answer, Error> {
        self.release(session, AppReleasesRecord::newest).await
    }

    /// Newest first; if none is recorded, that of its machines.
    async fn list_releases(&self, session: &Session, args: &Args) -> Result<Answer, Error> {
        let first = args.number("first").unwrap_or(i64::MAX);
        let first =
            usize::try_from(first).map_err(|_| Error::invalid("first", "must not be negative"))?;
        let recorded = self.recorded(session).await?;
        if !recorded.releases.is_empty() {
            let newest = recorded.releases.iter().rev().take(first).cloned();
            return Ok(Answer::nodes(newest.map(|record| Answer::node(Release::new(record)))));
        }
        let derived = match self.newest_release(session).await? {
            Answer::Json(Value::Null) => None,
            derived => Some(derived),
        };
        Ok(Answer::nodes(derived.into_iter().take(first)))
    }

    /// The config that its newest release deploys.
    async fn definition(&self, session: &Session) -> Result<Value, Error> {
        match self.recorded(session).await?.newest().cloned().map(Release::new) {
            Some(newest) => newest.definition(session).await,
            None => Ok(json!({})),
        }
    }

    async fn secrets(&self, session: &Session) -> Result<Value, Error> {
        session.may_app(read(Subject::App).of("secrets"), &self.app.name).await?;
        let query = secrets::Query::default();
        let all = secrets::list(&session.platform, &self.app.name, query).await?.secrets;
        let shown = all.into_iter().map(|secret| {
            let created = secret.created_at.or(secret.updated_at);
            json!({ "name": secret.name, "digest": secret.digest, "createdAt": created })
        });
        Ok(Value::Array(shown.collect()))
    }

    /// What is known without a question.
    fn plain(&self, name: &str) -> Option<Value> {
        let app = &self.app;
        let given = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
        let deployed = app.status == "deployed";
        Some(match name {
            "id" | "name" => json!(app.name),
            "internalNumericId" => json!(app.internal_numeric_id),
            "hostname" => json!(app.hostname),
            "appUrl" => json!(app.hostname.as_ref().map(|host| format!("http://{host}"))),
            "cnameTarget" => given(&app.cname_target),
            "status" => json!(app.status),
            "deployed" => json!(deployed),
            "state" => json!(if deployed { "DEPLOYED" } else { "PENDING" }),
            "network" => json!(app.network),
            "platformVersion" => json!("machines"),
            "role" if app.app_role.is_empty() => Value::Null,
            "role" => json!({ "name": app.app_role }),
            // Parts that are not built, and those of a platform before machines.
            "services" => json!([]),
            "networkId" | "sharedIpAddress" | "currentLock" => Value::Null,
            "ipAddresses" | "egressIpAddresses" | "hostIssues" | "addOns" => json!({ "nodes": [] }),
            _ => return None,
        })
    }
}

/// The number of an app, by which its records are found.
fn number_of(app: &wire::machines::App) -> AppId {
    AppId(u32::try_from(app.internal_numeric_id).unwrap_or_default())
}

/// The name of the app that a text names.
async fn name_of(session: &Session, text: &str) -> Result<String, Error> {
    let platform = &session.platform;
    match (lookup::app(platform, text).await, text.parse()) {
        (Err(err), Ok(number)) if err.kind == Kind::NotFound => {
            let found = lookup::app_by_id(platform, AppId(number)).await?;
            Ok(found.map_or_else(|| text.to_owned(), |app| app.name.to_string()))
        }
        _ => Ok(text.to_owned()),
    }
}

/// That an app is not there for the caller is answered with the caller's own text.
fn not_found_as(err: Error, text: &str) -> Error {
    if err.kind == Kind::NotFound { Error::no_app(text) } else { err }
}

#[async_trait]
impl Fields for App {
    fn type_name(&self) -> &'static str {
        "App"
    }

    async fn field(&self, session: &Session, name: &str, args: &Args) -> Result<Answer, Error> {
        if let Some(plain) = self.plain(name) {
            return Ok(Answer::Json(plain));
        }
        Ok(Answer::Json(match name {
            "organization" => return Ok(Answer::node(self.org())),
            "machines" => {
                let own = Answer::node(self.clone());
                let all = self.machines(session).await?.iter().cloned();
                let all = all.map(|machine| Answer::node(Machine { machine, app: own.clone() }));
                return Ok(Answer::nodes(all));
            }
            "version" => json!(self.recorded(session).await?.newest().map_or(0, |it| it.version)),
            "currentRelease" => {
                return self.release(session, AppReleasesRecord::newest_complete).await;
            }
            "currentReleaseUnprocessed" => return self.newest_release(session).await,
            "releases" | "releasesUnprocessed" => return self.list_releases(session, args).await,
            "config" => json!({ "definition": self.definition(session).await? }),
            "secrets" => self.secrets(session).await?,
            "regions" => {
                let machines = self.machines(session).await?;
                let codes: BTreeSet<&str> = machines.iter().map(|m| m.region.as_str()).collect();
                let codes = codes.into_iter().filter(|code| !code.is_empty());
                Value::Array(codes.map(|code| region::region(session, code)).collect())
            }
            "image" => image::resolve(session, &self.app.name, &args.required("ref")?).await?,
            "imageDetails" => match self.newest(session).await? {
                Some(newest) => {
                    let mut image = json!(newest.image_ref);
                    image["version"] = Value::Null;
                    image
                }
                None => Value::Null,
            },
            "limitedAccessTokens" => {
                session.may_app(read(Subject::App).of("tokens"), &self.app.name).await?;
                tokens::list(session, &self.app.organization.slug, Some(&self.app.name)).await?
            }
            _ => return Err(Error::internal(format!("App has no field {name}"))),
        }))
    }
}
