//! `/v1/apps/{app}/machines`. See <https://fly.io/docs/machines/api/machines-resource/>.

pub(in crate::http_api) mod batch;
pub(in crate::http_api) mod busy;
pub(in crate::http_api) mod exec;
mod exec_session;
pub(in crate::http_api) mod leases;
pub(in crate::http_api) mod lifecycle;
pub(in crate::http_api) mod memory;
pub(in crate::http_api) mod metadata;
pub(in crate::http_api) mod patch;
pub(in crate::http_api) mod runs;

use crate::error::shortened;
use crate::http_api::answer::JsonList;
use crate::http_api::caller::Acting;
use crate::http_api::extract::{JsonBody, Params};
use crate::http_api::warnings::Warnings;
use crate::machines::ListFilter;
use crate::{Error, config, machines};
use axum::Json;
use axum::extract::Path;
use model::id::HostId;
use wire::machines::{
    CheckReport, Done, LaunchMachine, Machine, MachineEvent, MachineVersion, Process,
};

type At = Path<(String, String)>;

pub(in crate::http_api) async fn create(
    Acting(platform): Acting,
    Path(app): Path<String>,
    warnings: Warnings,
    JsonBody(launch): JsonBody<LaunchMachine>,
) -> Result<Json<Machine>, Error> {
    let machine = machines::create(&platform, &app, launch).await?;
    warnings.extend(of_config(&machine));
    Ok(Json(machine))
}

/// Warnings of the config that a machine has been given.
fn of_config(machine: &Machine) -> Vec<String> {
    machine.config.as_deref().map(config::warnings).unwrap_or_default()
}

fn host_number(text: &str) -> Result<HostId, Error> {
    let rule = "must be the number of a host; `GET /v1/platform/hosts` lists them";
    text.parse().map(HostId).map_err(|_| Error::invalid("host", rule))
}

pub(in crate::http_api) async fn list(
    Acting(platform): Acting,
    Path(app): Path<String>,
    query: Params,
) -> Result<JsonList<Machine>, Error> {
    let labels = query.prefixed("metadata.");
    let filter = ListFilter {
        include_deleted: query.flag("include_deleted")?,
        states: query.list("state"),
        region: query.get("region").map(str::to_owned),
        metadata: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        summary: query.flag("summary")?,
        leases: query.flag("include_leases")?,
        host: query.get("host").map(host_number).transpose()?,
    };
    machines::list(&platform, &app, filter).await.map(JsonList)
}

pub(in crate::http_api) async fn get(
    Acting(platform): Acting,
    Path((app, machine)): At,
    query: Params,
) -> Result<Json<Machine>, Error> {
    let leased = query.flag("include_leases")?;
    machines::get(&platform, &app, &machine, leased).await.map(Json)
}

pub(in crate::http_api) async fn update(
    Acting(platform): Acting,
    Path((app, machine)): At,
    warnings: Warnings,
    JsonBody(launch): JsonBody<LaunchMachine>,
) -> Result<Json<Machine>, Error> {
    let asked = (launch.name.clone(), launch.region.clone());
    let machine = machines::update(&platform, &app, &machine, launch).await?;
    warnings.extend(of_update(&asked, &machine));
    warnings.extend(of_config(&machine));
    Ok(Json(machine))
}

/// Warnings of a name and a region in an update, which a machine keeps for its life.
fn of_update((name, region): &(Option<String>, Option<String>), machine: &Machine) -> Vec<String> {
    let asked = [("name", name, &machine.name), ("region", region, &machine.region)];
    let differs = |text: &str, own: &String| !text.is_empty() && text != own;
    let warned = asked.into_iter().filter_map(|(field, asked, own)| {
        let asked = asked.as_deref().filter(|text| differs(text, own))?;
        let asked = shortened(asked, 80);
        Some(format!("{field}: the machine keeps {own:?}; an update does not make it {asked:?}"))
    });
    warned.collect()
}

pub(in crate::http_api) async fn destroy(
    Acting(platform): Acting,
    Path((app, machine)): At,
    query: Params,
) -> Result<Json<Done>, Error> {
    let force = query.flag("force")? || query.flag("kill")?;
    machines::destroy(&platform, &app, &machine, force).await?;
    Ok(Json(Done { ok: true }))
}

pub(in crate::http_api) async fn events(
    Acting(platform): Acting,
    Path((app, machine)): At,
    query: Params,
) -> Result<Json<Vec<MachineEvent>>, Error> {
    let (limit, before) = (query.number("limit")?, query.get("before"));
    machines::events(&platform, &app, &machine, limit, before).await.map(Json)
}

pub(in crate::http_api) async fn versions(
    Acting(platform): Acting,
    Path((app, machine)): At,
) -> Result<Json<Vec<MachineVersion>>, Error> {
    machines::versions(&platform, &app, &machine).await.map(Json)
}

pub(in crate::http_api) async fn checks(
    Acting(platform): Acting,
    Path((app, machine)): At,
) -> Result<Json<Vec<CheckReport>>, Error> {
    machines::checks(&platform, &app, &machine).await.map(Json)
}

pub(in crate::http_api) async fn processes(
    Acting(platform): Acting,
    Path((app, machine)): At,
    query: Params,
) -> Result<Json<Vec<Process>>, Error> {
    let mut processes = machines::processes(&platform, &app, &machine).await?;
    match query.get("sort_by") {
        None | Some("pid") => processes.sort_by_key(|p| p.pid),
        Some("cpu") => processes.sort_by_key(|p| p.cpu),
        Some("rss") => processes.sort_by_key(|p| p.rss),
        Some("stime") => processes.sort_by_key(|p| p.stime),
        Some("rtime") => processes.sort_by_key(|p| p.rtime),
        Some("command") => processes.sort_by(|a, b| a.command.cmp(&b.command)),
        Some("directory") => processes.sort_by(|a, b| a.directory.cmp(&b.directory)),
        Some(_) => {
            let fields = "pid, cpu, rss, stime, rtime, command, directory";
            return Err(Error::invalid("sort_by", format!("must be one of {fields}")));
        }
    }
    match query.get("order") {
        None | Some("asc") => {}
        Some("desc") => processes.reverse(),
        Some(_) => return Err(Error::invalid("order", "must be asc or desc")),
    }
    Ok(Json(processes))
}
