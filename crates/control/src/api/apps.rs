//! Apps (R014–R020).

use super::body::JsonBody;
use super::query::Params;
use super::setup::{DEFAULT_NETWORK, DEFAULT_ORG};
use super::{Api, ApiError};
use crate::ports::{Compare, KeyRange, Op, Revision, Txn};
use crate::records::{self, AppRecord, NetworkRecord, OrgRecord, Stored, encode};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use model::id::{AppName, NetworkName};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::timeout;
use wire::machines::{App, AppList, CreateApp, CreatedApp, Done, Organization};

/// Tries against other writers before giving up; each other writer that comes
/// first has made progress.
const TRIES: usize = 16;
const LONGEST_KEY: usize = 256;
/// Time that the answer to a delete waits for it to be done.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn create(
    State(api): State<Api>,
    JsonBody(ask): JsonBody<CreateApp>,
) -> Result<(StatusCode, Json<serde_json::Value>), ApiError> {
    let invalid = |err: model::id::BadId| ApiError::invalid(err.to_string());
    let name: AppName = ask.app_name.parse().map_err(invalid)?;
    let not_empty = |text: Option<String>| text.filter(|text| !text.is_empty());
    let org = api.org(&not_empty(ask.org_slug).unwrap_or(DEFAULT_ORG.into())).await?;
    let network: NetworkName =
        not_empty(ask.network).unwrap_or(DEFAULT_NETWORK.into()).parse().map_err(invalid)?;
    let key = not_empty(ask.idempotency_key);
    if key.as_ref().is_some_and(|key| key.len() > LONGEST_KEY || key.chars().any(char::is_control))
    {
        return Err(ApiError::invalid("idempotency_key: at most 256 bytes, no control characters"));
    }
    for _ in 0..TRIES {
        if let Some(app) = earlier(&api, &name, key.as_deref()).await? {
            return api.created(app, &org).map(|json| (StatusCode::CREATED, json));
        }
        if let Some(app) = api.try_create(&name, &org, &network, key.as_deref()).await? {
            return api.created(app, &org).map(|json| (StatusCode::CREATED, json));
        }
    }
    Err(ApiError::new(StatusCode::CONFLICT, "too many apps are being created at once; try again"))
}

/// The app that the same request made before (R016).
async fn earlier(
    api: &Api,
    name: &AppName,
    key: Option<&str>,
) -> Result<Option<AppRecord>, ApiError> {
    let taken: Option<Stored<AppRecord>> =
        records::get(api.store(), &records::app_key(name.as_str())).await?;
    let made: Option<Stored<String>> = match key {
        Some(key) => records::get(api.store(), &records::idempotency_key(key)).await?,
        None => None,
    };
    match (taken, made) {
        // It would answer that there is an app, which every other call denies.
        (Some(app), _) if app.record.deleting => {
            Err(ApiError::name_taken(&format!("app {name} is still being deleted")))
        }
        (Some(app), Some(made)) if made.record == name.as_str() => Ok(Some(app.record)),
        (_, Some(made)) if made.record != name.as_str() => {
            let why = format!("idempotency_key: was used to create the app {:?}", made.record);
            Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, why))
        }
        (Some(_), _) => Err(ApiError::name_taken("")),
        (None, _) => Ok(None),
    }
}

impl Api {
    /// Claims name, number and network in one transaction; `None` if another
    /// writer came first.
    async fn try_create(
        &self,
        name: &AppName,
        org: &OrgRecord,
        network: &NetworkName,
        key: Option<&str>,
    ) -> Result<Option<AppRecord>, ApiError> {
        let app_key = records::app_key(name.as_str());
        let mut txn = Txn { compare: vec![Compare::Absent(app_key.clone())], ..Txn::default() };
        let number = self.next("apps", &mut txn).await?;
        let network_key = records::network_key(&org.slug, network.as_str());
        let known: Option<Stored<NetworkRecord>> = records::get(self.store(), &network_key).await?;
        let network_number = match known {
            Some(known) => known.record.number,
            None => {
                let number = self.next("networks", &mut txn).await?;
                txn.compare.push(Compare::Absent(network_key.clone()));
                txn.then.push(Op::Put(network_key, encode(&NetworkRecord { number }), 0));
                number
            }
        };
        let app = AppRecord {
            name: name.to_string(),
            number: i32::try_from(number).unwrap_or(i32::MAX),
            org: org.slug.clone(),
            network: network.to_string(),
            network_number,
            created_ms: self.world.clock.now_ms(),
            deployed: false,
            deleting: false,
            idempotency_key: key.map(str::to_owned),
        };
        txn.then.push(Op::Put(app_key, encode(&app), 0));
        if let Some(key) = key.map(records::idempotency_key) {
            txn.compare.push(Compare::Absent(key.clone()));
            txn.then.push(Op::Put(key, encode(&app.name), 0));
        }
        Ok(self.store().txn(txn).await?.succeeded.then_some(app))
    }

    /// The next number of a counter, taken by `txn`.
    async fn next(&self, what: &str, txn: &mut Txn) -> Result<u32, ApiError> {
        let key = records::counter_key(what);
        let last: Option<Stored<u32>> = records::get(self.store(), &key).await?;
        let (last, revision): (u32, Revision) = last.map_or((0, 0), |c| (c.record, c.revision));
        let next = last.checked_add(1).ok_or_else(|| ApiError::internal("all numbers are used"))?;
        txn.compare.push(Compare::Modified(key.clone(), revision));
        txn.then.push(Op::Put(key, encode(&next), 0));
        Ok(next)
    }

    fn created(
        &self,
        app: AppRecord,
        org: &OrgRecord,
    ) -> Result<Json<serde_json::Value>, ApiError> {
        let created_at = i64::try_from(app.created_ms).unwrap_or(i64::MAX);
        let app = self.show(app, org, 0);
        let created = CreatedApp { id: app.id.clone(), created_at, app: Some(app) };
        // By way of a value: both parts have an `id`, and it is to be written once.
        let json = serde_json::to_value(created);
        json.map(Json).map_err(|err| ApiError::internal(format!("write the answer: {err}")))
    }

    fn show(&self, app: AppRecord, org: &OrgRecord, machine_count: u64) -> App {
        let cname_target = format!("{}.{}", app.name, self.config.domain);
        let port = self.config.edge_port.map(|port| format!(":{port}")).unwrap_or_default();
        App {
            id: app.name.clone(),
            status: if app.deployed { "deployed" } else { "pending" }.into(),
            organization: Organization {
                name: org.name.clone(),
                slug: org.slug.clone(),
                internal_numeric_id: org.number,
            },
            network: app.network,
            network_cidr: Some(network_cidr(app.network_number)),
            internal_numeric_id: app.number,
            machine_count,
            volume_count: 0,
            hostname: Some(format!("{cname_target}{port}")),
            cname_target,
            app_role: String::new(),
            name: app.name,
        }
    }
}

/// The 6PN prefix of a network (N001), as in `model::address`.
fn network_cidr(number: u32) -> String {
    let [a, b, c, d] = number.to_be_bytes();
    let half = |high, low| u16::from_be_bytes([high, low]);
    let first = std::net::Ipv6Addr::new(0xfdaa, half(a, b), half(c, d), 0, 0, 0, 0, 0);
    format!("{first}/48")
}

pub(super) async fn list(State(api): State<Api>, query: Params) -> Result<Json<AppList>, ApiError> {
    let only = match query.get("org_slug") {
        Some(slug) => Some(api.org(slug).await?.slug),
        None => None,
    };
    let apps: Vec<Stored<AppRecord>> = records::list(api.store(), records::APPS).await?;
    let counts = machine_counts(&api).await?;
    let mut orgs: HashMap<String, OrgRecord> = HashMap::new();
    let mut shown = Vec::new();
    for Stored { record: app, .. } in apps {
        if app.deleting || only.as_ref().is_some_and(|only| *only != app.org) {
            continue;
        }
        if !orgs.contains_key(&app.org) {
            orgs.insert(app.org.clone(), api.org(&app.org).await?);
        }
        let count = counts.get(&app.name).copied().unwrap_or(0);
        shown.push(api.show(app.clone(), &orgs[&app.org], count));
    }
    Ok(Json(AppList { total_apps: shown.len() as u64, apps: shown }))
}

/// Machines by app: those that hold a name.
async fn machine_counts(api: &Api) -> Result<HashMap<String, u64>, ApiError> {
    let names = api.store().range(KeyRange::prefix(records::NAMES), None, 0).await?;
    let mut counts = HashMap::new();
    for entry in names.entries {
        let app = entry.key.strip_prefix(records::NAMES).and_then(|rest| rest.split('/').next());
        *counts.entry(app.unwrap_or_default().to_owned()).or_default() += 1;
    }
    Ok(counts)
}

pub(super) async fn get(
    State(api): State<Api>,
    Path(app): Path<String>,
) -> Result<Json<App>, ApiError> {
    let app = api.app(&app).await?.record;
    let org = api.org(&app.org).await?;
    let names = api.store().range(KeyRange::prefix(&records::names_of(&app.name)), None, 0).await?;
    Ok(Json(api.show(app, &org, names.entries.len() as u64)))
}

/// Records that the app is to be gone and answers; a reconciler sees to it,
/// also after a crash.
pub(super) async fn destroy(
    State(api): State<Api>,
    Path(app): Path<String>,
    query: Params,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    let force = query.flag("force")?;
    for _ in 0..TRIES {
        let Stored { key, revision, record: mut app } = api.app(&app).await?;
        if !force {
            refuse_running(&api, &app.name).await?;
        }
        app.deleting = true;
        let txn = Txn {
            compare: vec![Compare::Modified(key.clone(), revision)],
            then: vec![Op::Put(key, encode(&app), 0)],
            otherwise: vec![],
        };
        if !api.store().txn(txn).await?.succeeded {
            continue;
        }
        let finishing = api.clone();
        let done = api.world.tasks.spawn(async move { finishing.finish_deletion(&app.name).await });
        // Most clients reuse the name at once; the rest is the reconciler's.
        drop(timeout(PATIENCE, done).await);
        return Ok((StatusCode::ACCEPTED, Json(Done { ok: true })));
    }
    Err(ApiError::new(StatusCode::CONFLICT, "the app is being changed by others; try again"))
}

async fn refuse_running(api: &Api, app: &str) -> Result<(), ApiError> {
    let machines = api.machines_of(app, Default::default()).await?;
    let runs = |state: &str| model::life::State::parse(state).is_some_and(|s| s.holds_memory());
    let running: Vec<_> = machines.into_iter().filter(|m| runs(&m.state)).map(|m| m.name).collect();
    if running.is_empty() {
        return Ok(());
    }
    let (count, some) = (running.len(), running[..running.len().min(5)].join(", "));
    let why = format!("app {app:?} has {count} running machines: {some}");
    Err(ApiError::new(StatusCode::CONFLICT, why).hint("stop them, or delete with ?force=true"))
}
