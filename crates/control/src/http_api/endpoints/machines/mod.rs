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

use crate::http_api::caller::Acting;
use crate::http_api::extract::{JsonBody, Params};
use crate::machines::ListFilter;
use crate::{Error, config, machines};
use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue};
use model::id::HostId;
use wire::machines::{
    CheckReport, Done, LaunchMachine, Machine, MachineEvent, MachineVersion, Process,
};

/// Warnings in the headers of one answer.
const MAX_WARNINGS: usize = 20;

type At = Path<(String, String)>;

pub(in crate::http_api) async fn create(
    Acting(platform): Acting,
    Path(app): Path<String>,
    JsonBody(launch): JsonBody<LaunchMachine>,
) -> Result<(HeaderMap, Json<Machine>), Error> {
    let of_request = config::launch_warnings(&launch);
    let machine = machines::create(&platform, &app, launch).await?;
    Ok((warnings(of_request, &machine), Json(machine)))
}

/// What is accepted but not acted on, one header each.
fn warnings(mut texts: Vec<String>, machine: &Machine) -> HeaderMap {
    texts.extend(machine.config.as_ref().map(config::warnings).unwrap_or_default());
    if texts.len() > MAX_WARNINGS {
        let more = texts.len() - MAX_WARNINGS;
        texts.truncate(MAX_WARNINGS);
        texts.push(format!("and {more} more parts of the config are not acted on"));
    }
    let mut headers = HeaderMap::new();
    for text in texts {
        // Names of fields are the client's own text.
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if let Ok(value) = HeaderValue::from_bytes(line.as_bytes()) {
            headers.append("updraft-warning", value);
        }
    }
    headers
}

fn host_number(text: &str) -> Result<HostId, Error> {
    let rule = "must be the number of a host; `GET /v1/platform/hosts` lists them";
    text.parse().map(HostId).map_err(|_| Error::invalid("host", rule))
}

pub(in crate::http_api) async fn list(
    Acting(platform): Acting,
    Path(app): Path<String>,
    query: Params,
) -> Result<Json<Vec<Machine>>, Error> {
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
    machines::list(&platform, &app, filter).await.map(Json)
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
    JsonBody(launch): JsonBody<LaunchMachine>,
) -> Result<(HeaderMap, Json<Machine>), Error> {
    let of_request = config::launch_warnings(&launch);
    let machine = machines::update(&platform, &app, &machine, launch).await?;
    Ok((warnings(of_request, &machine), Json(machine)))
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
