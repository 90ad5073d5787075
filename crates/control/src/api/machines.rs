//! Machines: list, read, change, destroy (R023–R035, R046–R049).

use super::body::JsonBody;
use super::query::Params;
use super::{Api, ApiError, create};
use crate::records::{self, NameRecord, OwnedRecord, Stored};
use crate::rules;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue};
use model::life::State as Life;
use std::collections::HashSet;
use wire::machines::{Done, LaunchMachine, Machine, MachineEvent, MachineVersion, Process};
use wire::worker::{MachineFilter, UpdateMachine};

const EVENTS: usize = 20;
const MOST_EVENTS: usize = 50;

pub(super) async fn create(
    State(api): State<Api>,
    Path(app): Path<String>,
    JsonBody(launch): JsonBody<LaunchMachine>,
) -> Result<(HeaderMap, Json<Machine>), ApiError> {
    let machine = api.create_machine(&app, launch).await?;
    Ok((warnings(&machine), Json(machine)))
}

/// What is allowed but probably not meant, one header each.
fn warnings(machine: &Machine) -> HeaderMap {
    let warnings = machine.config.as_ref().map(rules::warnings).unwrap_or_default();
    let values = warnings.iter().filter_map(|text| HeaderValue::from_str(text).ok());
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append("updraft-warning", value);
    }
    headers
}

pub(super) async fn list(
    State(api): State<Api>,
    Path(app): Path<String>,
    query: Params,
) -> Result<Json<Vec<Machine>>, ApiError> {
    let app = api.app(&app).await?.record;
    let states = query.list("state");
    for state in &states {
        if Life::parse(state).is_none() {
            let state: String = state.chars().take(40).collect();
            return Err(ApiError::invalid(format!("state: there is no state {state:?}")));
        }
    }
    let labels = query.prefixed("metadata.");
    let filter = MachineFilter {
        app: None,
        include_deleted: query.flag("include_deleted")?,
        states,
        region: query.get("region").map(str::to_owned),
        metadata: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        summary: query.flag("summary")?,
    };
    let mut machines = api.machines_of(&app.name, filter).await?;
    api.keep_own(&app.name, &mut machines).await?;
    Ok(Json(machines))
}

impl Api {
    /// Machines of an app on all hosts, oldest first.
    pub(crate) async fn machines_of(
        &self,
        app: &str,
        filter: MachineFilter,
    ) -> Result<Vec<Machine>, ApiError> {
        let filter = MachineFilter { app: Some(app.into()), ..filter };
        let hosts = self.world.hosts.all();
        let asked = hosts.iter().map(|(_, host)| host.machines(filter.clone()));
        let answers = futures_util::future::try_join_all(asked).await?;
        let several = answers.len() > 1;
        let mut machines: Vec<Machine> = answers.into_iter().flatten().collect();
        if several {
            machines.sort_by(|a, b| a.created_at.cmp(&b.created_at));
        }
        Ok(machines)
    }

    /// Removes what hosts remember of an earlier app of the same name: machines
    /// that the store does not know as this app's. Not by age, since clocks are
    /// set back now and then.
    async fn keep_own(&self, app: &str, machines: &mut Vec<Machine>) -> Result<(), ApiError> {
        let named: Vec<Stored<NameRecord>> =
            records::list(self.store(), &records::names_of(app)).await?;
        let mut own: HashSet<String> = named.into_iter().map(|named| named.record.id).collect();
        let mut gone = Vec::new();
        // Machines that are going or gone have no name any more.
        for machine in machines.iter().filter(|machine| !own.contains(&machine.id)) {
            let key = records::machine_key(&machine.id);
            let owned: Option<Stored<OwnedRecord>> = records::get(self.store(), &key).await?;
            if owned.is_some_and(|owned| owned.record.app == app) {
                gone.push(machine.id.clone());
            }
        }
        own.extend(gone);
        machines.retain(|machine| own.contains(&machine.id));
        Ok(())
    }
}

pub(super) async fn get(
    State(api): State<Api>,
    Path((app, machine)): Path<(String, String)>,
) -> Result<Json<Machine>, ApiError> {
    let found = api.find(&app, &machine).await?;
    Ok(Json(found.host.machine(&found.id).await?))
}

/// Replaces the whole config; `name` and `region` stay what they are (R026).
pub(super) async fn update(
    State(api): State<Api>,
    Path((app, machine)): Path<(String, String)>,
    JsonBody(mut launch): JsonBody<LaunchMachine>,
) -> Result<(HeaderMap, Json<Machine>), ApiError> {
    let found = api.find(&app, &machine).await?;
    let config = create::checked(launch.config.take())?;
    let updated = api.carry_through(async move {
        let image = create::resolve(&*found.host, &config.image).await?;
        let update = UpdateMachine {
            id: found.id.clone(),
            config,
            image,
            skip_launch: launch.skip_launch == Some(true),
            current_version: launch.current_version.filter(|version| !version.is_empty()),
        };
        Ok(found.host.update(update).await?)
    });
    let machine = updated.await?;
    Ok((warnings(&machine), Json(machine)))
}

/// Records the wish that the machine be gone; its name is free at once.
pub(super) async fn destroy(
    State(api): State<Api>,
    Path((app, machine)): Path<(String, String)>,
    query: Params,
) -> Result<Json<Done>, ApiError> {
    let force = query.flag("force")? || query.flag("kill")?;
    let found = api.find(&app, &machine).await?;
    let worker = api.clone();
    let done = api.carry_through(async move {
        found.host.destroy(&found.id, force).await?;
        // What fails here is done by the reconciler: the wish is recorded.
        if let Err(err) = worker.release(&found.app, &found.name, &found.id, false).await {
            tracing::warn!(machine = found.id, error = err.error, "free the name of a machine");
        }
        Ok(Done { ok: true })
    });
    Ok(Json(done.await?))
}

pub(super) async fn events(
    State(api): State<Api>,
    Path((app, machine)): Path<(String, String)>,
    query: Params,
) -> Result<Json<Vec<MachineEvent>>, ApiError> {
    let limit = query.number::<usize>("limit")?.unwrap_or(EVENTS).clamp(1, MOST_EVENTS);
    let found = api.find(&app, &machine).await?;
    Ok(Json(found.host.events(&found.id, limit).await?))
}

pub(super) async fn versions(
    State(api): State<Api>,
    Path((app, machine)): Path<(String, String)>,
) -> Result<Json<Vec<MachineVersion>>, ApiError> {
    let found = api.find(&app, &machine).await?;
    Ok(Json(found.host.versions(&found.id).await?))
}

pub(super) async fn processes(
    State(api): State<Api>,
    Path((app, machine)): Path<(String, String)>,
    query: Params,
) -> Result<Json<Vec<Process>>, ApiError> {
    let found = api.find(&app, &machine).await?;
    let mut processes = found.host.processes(&found.id).await?;
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
            return Err(ApiError::invalid(format!("sort_by: must be one of {fields}")));
        }
    }
    match query.get("order") {
        None | Some("asc") => {}
        Some("desc") => processes.reverse(),
        Some(_) => return Err(ApiError::invalid("order: must be asc or desc")),
    }
    Ok(Json(processes))
}
