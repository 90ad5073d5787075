//! `Queries`: what is read.

use super::super::answer::{Answer, Args, Fields};
use super::super::session::Session;
use super::app::App;
use super::machine::Machine;
use super::org::Org;
use super::unbuilt::unbuilt;
use super::volume::Volume;
use super::{image, region, user};
use crate::access::{Place, Subject, read};
use crate::error::shortened;
use crate::{Error, Kind, apps, lookup, machines, volumes};
use async_trait::async_trait;
use model::id::{AppName, MachineId, VolumeId};
use serde_json::json;
use store::records::{self, AppRecord, Stored};

/// Apps of a page if no number is given, and at most.
const PAGE: usize = 200;
const MAX_PAGE: usize = 1000;
/// The one type of app.
const CONTAINER: &str = "container";

/// The root of queries.
pub(in crate::graphql) struct Queries;

#[async_trait]
impl Fields for Queries {
    fn type_name(&self) -> &'static str {
        "Queries"
    }

    async fn field(&self, session: &Session, name: &str, args: &Args) -> Result<Answer, Error> {
        // Beside each field: what its caller needs, if more than a valid token.
        Ok(match name {
            "viewer" => user::viewer(session).into(),
            "app" => Answer::node(one_app(session, args).await?), // read(App)
            "apps" => list_apps(session, args).await?,            // those that it may read
            "appNameAvailable" => json!(is_available(session, args).await?).into(),
            "organizations" => {
                // Those that it may read, and those of its apps.
                let orgs = apps::organizations(&session.platform).await?;
                Answer::nodes(orgs.into_iter().map(|org| Answer::node(Org::from(org))))
            }
            "organization" => Answer::node(one_org(session, args).await?), // the same
            "platform" => {
                let (regions, nearest) = region::all(session).await?;
                json!({ "requestRegion": nearest, "regions": regions }).into()
            }
            "nearestRegion" => {
                if args.flag("wireguardGateway") {
                    session.platform.config().gateway.endpoint()?;
                }
                region::region(session, &region::all(session).await?.1).into()
            }
            "machine" => one_machine(session, args).await?, // read(Machine)
            "volume" => one_volume(session, args).await?,   // read(Volume)
            "latestImageTag" => {
                return Err(image::unknown_repository(&args.required("repository")?));
            }
            "latestImageDetails" => image::latest(session, &args.required("image")?).await?.into(),
            "canPerformBluegreenDeployment" => {
                App::read(session, &args.required("name")?).await?; // read(App)
                json!(true).into()
            }
            _ => return Err(unbuilt(name)),
        })
    }
}

async fn one_app(session: &Session, args: &Args) -> Result<App, Error> {
    let named = args.text("name").or_else(|| args.text("internalId"));
    let named = named.ok_or_else(|| Error::invalid("name", "is required"))?;
    App::read(session, &named).await
}

/// One page of apps, by name.
async fn list_apps(session: &Session, args: &Args) -> Result<Answer, Error> {
    let first = match args.number("first") {
        None => PAGE,
        Some(first) => usize::try_from(first)
            .map_err(|_| Error::invalid("first", "must not be negative"))?
            .min(MAX_PAGE),
    };
    let (org, role, after) = (args.text("organizationId"), args.text("role"), args.text("after"));
    let mut apps = apps::list(&session.platform, org.as_deref(), role.as_deref()).await?.apps;
    if args.text("type").is_some_and(|kind| kind != CONTAINER) {
        apps.clear();
    }
    apps.sort_by(|a, b| a.name.cmp(&b.name));
    apps.retain(|app| after.as_ref().is_none_or(|after| app.name > *after));
    let more = apps.len() > first;
    apps.truncate(first);
    let page = json!({ "hasNextPage": more, "endCursor": apps.last().map(|app| app.name.clone()) });
    let nodes = App::list(apps).map(Answer::node);
    Ok(Answer::object([("pageInfo", page.into()), ("nodes", Answer::List(nodes.collect()))]))
}

/// Whether no app has a name, also of those that the caller may not read: it is what the
/// attempt to make one would show.
async fn is_available(session: &Session, args: &Args) -> Result<bool, Error> {
    let name = args.required("name")?;
    let Ok(name) = name.parse::<AppName>() else { return Ok(false) };
    let found: Option<Stored<AppRecord>> =
        lookup::get(&session.platform, &records::app_key(name.as_str())).await?;
    Ok(found.is_none())
}

async fn one_org(session: &Session, args: &Args) -> Result<Org, Error> {
    if let Some(slug) = args.text("slug").or_else(|| args.text("id")) {
        return Org::read(session, &slug).await;
    }
    let name = args.required("name")?;
    let found = apps::organizations(&session.platform).await?;
    let found = found.into_iter().find(|org| org.name == name);
    found.map(Org::from).ok_or_else(|| lookup::no_org(&name))
}

/// A volume by its id, of whatever app.
async fn one_volume(session: &Session, args: &Args) -> Result<Answer, Error> {
    let id = args.required("id")?;
    let none = || {
        Error::not_found(format!("Could not find Volume {:?}", shortened(&id, 80)))
            .hint("`updraft volumes list` shows the volumes of an app")
    };
    let parsed: VolumeId = id.parse().map_err(|_| none())?;
    let app = volumes::app_of(&session.platform, parsed).await?.ok_or_else(none)?;
    let found = async {
        let name = app.name.to_string();
        let place = Place { app: Some(name.clone()), volume: Some(id.clone()), ..Place::default() };
        session.may(read(Subject::Volume), place).await?;
        let volume = volumes::get(&session.platform, &name, &id).await?;
        let app = App::made(apps::get(&session.platform, &name).await?);
        Ok(Answer::node(Volume { volume, app: Answer::node(app) }))
    };
    found.await.map_err(|err: Error| if err.kind == Kind::NotFound { none() } else { err })
}

/// A machine by its id, of whatever app.
async fn one_machine(session: &Session, args: &Args) -> Result<Answer, Error> {
    let id = args.required("machineId")?;
    let none = || {
        Error::not_found(format!("Could not find Machine {:?}", shortened(&id, 80)))
            .hint("`updraft machine list` shows the machines of an app")
    };
    let number: MachineId = id.parse().map_err(|_| none())?;
    let app = lookup::app_of(&session.platform, number).await?.ok_or_else(none)?;
    let found = async {
        let name = app.name.to_string();
        let place =
            Place { app: Some(name.clone()), machine: Some(id.clone()), ..Place::default() };
        session.may(read(Subject::Machine), place).await?;
        let machine = machines::get(&session.platform, &name, &id, false).await?;
        // A token for one machine reads no more of its app than the machine's answers show.
        let app = App::made(apps::get(&session.platform, &name).await?);
        Ok(Answer::node(Machine { machine, app: Answer::node(app) }))
    };
    found.await.map_err(|err: Error| if err.kind == Kind::NotFound { none() } else { err })
}
