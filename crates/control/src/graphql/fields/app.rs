//! Apps.

use super::super::answer::{Answer, Args, Fields};
use super::super::session::Session;
use super::machine::Machine;
use super::org::Org;
use super::{image, region, release, tokens};
use crate::access::{Subject, read};
use crate::machines::{self, ListFilter};
use crate::{Error, Kind, apps, lookup, secrets};
use async_trait::async_trait;
use model::id::AppId;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// An app that the caller may read.
#[derive(Clone)]
pub(super) struct App {
    app: wire::machines::App,
    /// It is an entry of a list.
    is_of_list: bool,
    /// Its machines, oldest first, once they have been listed.
    machines: Arc<OnceCell<Vec<wire::machines::Machine>>>,
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

    /// An entry of a list of apps that the caller may read.
    pub(super) fn of_list(app: wire::machines::App) -> Self {
        Self { is_of_list: true, ..Self::made(app) }
    }

    /// One that was made now.
    pub(super) fn made(app: wire::machines::App) -> Self {
        Self { app, is_of_list: false, machines: Arc::default() }
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

    async fn release(&self, session: &Session) -> Result<Value, Error> {
        let newest = self.newest(session).await?;
        Ok(newest.map_or(Value::Null, |newest| release::derived(&self.app, &newest)))
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
            "version" => json!(0),
            "state" => json!(if deployed { "DEPLOYED" } else { "PENDING" }),
            "network" => json!(app.network),
            "platformVersion" => json!("machines"),
            "role" if app.app_role.is_empty() => Value::Null,
            "role" => json!({ "name": app.app_role }),
            // Parts that are not built, and those of a platform before machines.
            "config" => json!({ "definition": {} }),
            "services" => json!([]),
            "networkId" | "sharedIpAddress" | "currentLock" => Value::Null,
            "ipAddresses" | "egressIpAddresses" | "hostIssues" | "addOns" => json!({ "nodes": [] }),
            _ => return None,
        })
    }
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
            "currentRelease" | "currentReleaseUnprocessed" => self.release(session).await?,
            "releasesUnprocessed" => {
                let release = self.release(session).await?;
                let wanted = args.number("first").is_none_or(|first| first > 0);
                let nodes = if release.is_null() || !wanted { json!([]) } else { json!([release]) };
                json!({ "nodes": nodes })
            }
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
