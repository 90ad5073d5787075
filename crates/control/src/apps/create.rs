//! Creating an app: its name, id and network are claimed in one transaction.

use super::read::show;
use crate::access::{base, permit};
use crate::counters::next_number;
use crate::error::shortened;
use crate::retry::Tries;
use crate::{Error, Kind, Platform, lookup, orgs};
use macaroon::{Access, Action};
use model::id::{AppId, AppName, NetworkId, NetworkName, OrgId};
use store::records::{self, AppRecord, NetworkRecord, OrgRecord, Stored, encode};
use store::{Compare, Op, Txn};
use wire::machines::{CreateApp, CreatedApp};

const MAX_IDEMPOTENCY_KEY: usize = 256;
const MAX_ROLE: usize = 63;
/// Role of the apps in which clients build images; the platform does not
/// provide them.
const BUILDER_ROLE: &str = "remote-docker-builder";

/// A create that has been validated.
struct Request {
    name: AppName,
    org: OrgRecord,
    network: NetworkName,
    idempotency_key: Option<String>,
    role: String,
}

/// Creates an app. Repeated with the same idempotency key it is the same app.
///
/// # Errors
/// The name is taken, or the request is not valid.
pub async fn create(platform: &Platform, ask: CreateApp) -> Result<CreatedApp, Error> {
    let request = parse(platform, ask).await?;
    let mut tries = Tries::new();
    while tries.again(platform).await {
        let app = match earlier(platform, &request).await? {
            Some(app) => Some(app),
            None => try_create(platform, &request).await?,
        };
        if let Some(app) = app {
            let created_at = i64::try_from(app.created_ms).unwrap_or(i64::MAX);
            let app = show(platform, app, &request.org, (0, 0));
            return Ok(CreatedApp { id: app.id.clone(), created_at, app: Some(app) });
        }
    }
    Err(Error::contention("the list of apps"))
}

/// The caller may make apps in the organization.
fn permit_create(platform: &Platform, org: &OrgRecord) -> Result<(), Error> {
    // 0 stands for the app that is to be made, whose number is not known yet.
    let (org_id, app) = (Some(u64::from(org.id.0)), Some(0));
    let access = Access { org: org_id, app, ..base(platform, Action::CREATE) };
    permit(platform, &access, &format!("apps in organization {:?}", org.slug))
}

async fn parse(platform: &Platform, ask: CreateApp) -> Result<Request, Error> {
    let invalid =
        |field: &'static str| move |err: model::id::BadId| Error::invalid(field, err.to_string());
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let name = ask.app_name.parse().map_err(invalid("app_name"))?;
    let org = given(ask.org_slug).unwrap_or_else(|| orgs::DEFAULT_ORG.into());
    let org = orgs::visible(platform, &org).await?;
    permit_create(platform, &org)?;
    let network: NetworkName = given(ask.network)
        .unwrap_or_else(|| orgs::DEFAULT_NETWORK.into())
        .parse()
        .map_err(invalid("network"))?;
    // https://fly.io/docs/networking/custom-private-networks/
    if !network.as_str().starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(Error::invalid("network", "must begin with a letter"));
    }
    let of_request = || platform.request().map(|request| request.as_str().to_owned());
    let key = given(ask.idempotency_key).or_else(of_request);
    let is_bad =
        |key: &String| key.len() > MAX_IDEMPOTENCY_KEY || key.chars().any(char::is_control);
    if key.as_ref().is_some_and(is_bad) {
        let rule = "at most 256 bytes, no control characters";
        return Err(Error::invalid("idempotency_key", rule));
    }
    let role = given(ask.app_role_id).unwrap_or_default();
    if role == BUILDER_ROLE {
        // Clients show the message only.
        let why =
            "remote builders are not supported yet; deploy an image that exists with `--image`";
        return Err(Error::unsupported("app_role_id", why)
            .hint("build the image locally, and import it with `updraft image import`"));
    }
    if role.len() > MAX_ROLE || role.chars().any(char::is_control) {
        return Err(Error::invalid("app_role_id", "at most 63 bytes, no control characters"));
    }
    Ok(Request { name, org, network, idempotency_key: key, role })
}

/// The app that the same request made before.
async fn earlier(platform: &Platform, request: &Request) -> Result<Option<AppRecord>, Error> {
    let name = &request.name;
    let taken: Option<Stored<AppRecord>> =
        records::get(platform.store(), &records::app_key(name.as_str())).await?;
    let made: Option<Stored<AppName>> = match &request.idempotency_key {
        Some(key) => {
            let key = records::idempotency_key(request.org.id, key);
            records::get(platform.store(), &key).await?
        }
        None => None,
    };
    match (taken, made) {
        // The answer would show an app that every other call denies.
        (Some(app), _) if app.record.deleting => {
            Err(Error::name_taken(&format!("app {name} is still being deleted")))
        }
        (Some(app), Some(made)) if made.record == *name => Ok(Some(app.record)),
        (_, Some(made)) if made.record != *name => {
            let why =
                format!("was used to create the app {:?}", shortened(made.record.as_str(), 80));
            Err(Error {
                field: Some("idempotency_key".into()),
                ..Error::new(Kind::Unsupported, why)
            })
        }
        (Some(_), _) => Err(Error::name_taken("")),
        (None, _) => Ok(None),
    }
}

/// `None` if another writer came first.
async fn try_create(platform: &Platform, request: &Request) -> Result<Option<AppRecord>, Error> {
    let _counters = platform.lock_counters().await;
    let app_key = records::app_key(request.name.as_str());
    // The organization may be deleted meanwhile: no app is made once it is marked for that.
    let key = records::org_key(&request.org.slug);
    let org: Option<Stored<OrgRecord>> = records::get(platform.store(), &key).await?;
    let org = org.filter(|org| org.record.id == request.org.id && !org.record.deleting);
    let org = org.ok_or_else(|| lookup::no_org(&request.org.slug))?;
    let org = Compare::Modified(key, org.revision);
    let compare = vec![Compare::Absent(app_key.clone()), org];
    let mut txn = Txn { compare, ..Txn::default() };
    let id = AppId(next_number(platform, "apps", &mut txn).await?);
    let network_key = records::network_key(&request.org.slug, request.network.as_str());
    let known: Option<Stored<NetworkRecord>> = records::get(platform.store(), &network_key).await?;
    let network_number = match known {
        Some(known) => known.record.number,
        None => {
            let number = NetworkId(next_number(platform, "networks", &mut txn).await?);
            txn.compare.push(Compare::Absent(network_key.clone()));
            txn.then.push(Op::put(network_key, encode(&NetworkRecord { number })));
            number
        }
    };
    let app = AppRecord {
        name: request.name.clone(),
        id,
        org: request.org.slug.clone(),
        network: request.network.to_string(),
        network_number,
        created_ms: platform.clock().now_ms(),
        deployed: false,
        deleting: false,
        idempotency_key: request.idempotency_key.clone(),
        role: request.role.clone(),
    };
    txn.then.push(Op::put(app_key, encode(&app)));
    if let Some(key) = idempotency_key(request.org.id, &app) {
        txn.compare.push(Compare::Absent(key.clone()));
        txn.then.push(Op::put(key, encode(&app.name)));
    }
    Ok(platform.store().txn(txn).await?.succeeded.then_some(app))
}

fn idempotency_key(org: OrgId, app: &AppRecord) -> Option<String> {
    app.idempotency_key.as_deref().map(|key| records::idempotency_key(org, key))
}
