//! Creating a machine: validate, place, claim, ask the host.

use super::{Api, ApiError, error};
use crate::ports::{Compare, Host, KeyRange, Op, Txn};
use crate::records::{self, AppRecord, NameRecord, OwnedRecord, Stored, encode};
use crate::rules::{self, Wanted};
use axum::http::StatusCode;
use futures_util::future::join_all;
use model::id::{HostId, MachineId, MachineName};
use std::sync::Arc;
use std::time::Duration;
use wire::machines::{ImageRef, LaunchMachine, Machine, MachineConfig};
use wire::worker::{CreateMachine, HostError, HostInfo};

/// Tries against others that claim the same names or change the app.
const TRIES: usize = 16;
/// A claim that is older and whose machine no host knows was cut off (see
/// `reconcile`).
pub(crate) const CLAIM_LIVES: Duration = Duration::from_secs(60);

/// A create whose form has been checked.
struct Ask {
    name: Option<MachineName>,
    config: MachineConfig,
    launch: LaunchMachine,
}

/// The config of a create or an update, checked and completed.
pub(super) fn checked(config: Option<MachineConfig>) -> Result<MachineConfig, ApiError> {
    let mut config = config.ok_or_else(|| ApiError::invalid("config: is required"))?;
    let complaints = rules::check(&config);
    if !complaints.is_empty() {
        return Err(ApiError::complaints(&complaints));
    }
    rules::complete(&mut config);
    Ok(config)
}

/// What the image of a config stands for on a host.
pub(super) async fn resolve(host: &dyn Host, image: &str) -> Result<ImageRef, ApiError> {
    let failed =
        |code, why: &str| ApiError::new(code, format!("config.image: resolve {image:?}: {why}"));
    host.resolve_image(image).await.map_err(|err| match &err {
        HostError::NotFound(why) => failed(StatusCode::BAD_REQUEST, why)
            .hint("import it with `updraft image import`, or check the reference"),
        HostError::Invalid(why) => failed(StatusCode::BAD_REQUEST, why),
        // Nothing has been done yet, so that a client may safely try again.
        HostError::Timeout(why) | HostError::Internal(why) => failed(StatusCode::BAD_GATEWAY, why)
            .hint("the registry could not be asked; imported images need none"),
        _ => ApiError::from(err),
    })
}

impl Api {
    /// Creates a machine; goes on when the client leaves.
    pub(super) async fn create_machine(
        &self,
        app: &str,
        mut launch: LaunchMachine,
    ) -> Result<Machine, ApiError> {
        let app = self.app(app).await?.record;
        let invalid = |err| ApiError::invalid(format!("name: {err}"));
        let name = launch.name.take().filter(|name| !name.is_empty());
        let name = name.map(|name| name.parse().map_err(invalid)).transpose()?;
        if launch.lease_ttl.is_some_and(|ttl| ttl > 0) {
            let why = "lease_ttl: leases are not supported yet";
            return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, why));
        }
        let config = checked(launch.config.take())?;
        let (api, ask) = (self.clone(), Ask { name, config, launch });
        self.carry_through(async move { api.place(app, ask).await }).await
    }

    /// Offers the machine to the hosts, best first, until one takes it.
    async fn place(&self, app: AppRecord, ask: Ask) -> Result<Machine, ApiError> {
        let infos = self.host_infos().await?;
        let wanted = Wanted {
            regions: ask.launch.region.clone().unwrap_or_default(),
            memory_mb: ask.config.guest.as_ref().and_then(|guest| guest.memory_mb).unwrap_or(0),
            launch: ask.launch.skip_launch != Some(true),
        };
        let mut refusals = Vec::new();
        for number in rules::candidates(&infos, &wanted)? {
            let Some(host) = self.world.hosts.get(HostId(number)) else { continue };
            match self.create_on(HostId(number), &host, &app, &ask).await {
                Err(err) if err.status == error::NO_CAPACITY => refusals.push(err),
                outcome => return outcome,
            }
        }
        Err(refusals.pop().unwrap_or_else(|| ApiError::internal("the hosts went away")))
    }

    async fn create_on(
        &self,
        number: HostId,
        host: &Arc<dyn Host>,
        app: &AppRecord,
        ask: &Ask,
    ) -> Result<Machine, ApiError> {
        let image = resolve(&**host, &ask.config.image).await?;
        let (id, name) = self.claim(number, &app.name, ask.name.as_ref()).await?;
        let machine = CreateMachine {
            id: id.to_string(),
            app: app.name.clone(),
            org: app.org.clone(),
            network: app.network_number,
            name: name.to_string(),
            config: ask.config.clone(),
            image,
            skip_launch: ask.launch.skip_launch == Some(true),
            cordoned: ask.launch.skip_service_registration == Some(true),
        };
        match host.create(machine).await {
            Ok(machine) => Ok(machine),
            Err(err) => {
                self.give_up(&**host, &app.name, &id.to_string(), name.as_str(), &err).await;
                Err(err.into())
            }
        }
    }

    /// Releases the claim of a machine that certainly does not exist. In doubt
    /// it stays, and the reconciler asks the host again later.
    async fn give_up(&self, host: &dyn Host, app: &str, id: &str, name: &str, err: &HostError) {
        let in_doubt = matches!(err, HostError::Internal(_) | HostError::Timeout(_));
        if in_doubt && !matches!(host.machine(id).await, Err(HostError::NotFound(_))) {
            return;
        }
        if let Err(err) = self.release(app, name, id, true).await {
            tracing::warn!(
                machine = id,
                error = err.error,
                "release the claim of a refused machine"
            );
        }
    }

    /// Writes down name and owner of a machine to be. Creates of the same name
    /// meet here, and one of them wins.
    async fn claim(
        &self,
        host: HostId,
        app: &str,
        wanted: Option<&MachineName>,
    ) -> Result<(MachineId, MachineName), ApiError> {
        for _ in 0..TRIES {
            let rng = &self.world.rng;
            let name = match wanted {
                Some(name) => name.clone(),
                None => model::name::machine_name(rng.bits())
                    .parse()
                    .map_err(|err| ApiError::internal(format!("generated name: {err}")))?,
            };
            let name_key = records::name_key(app, name.as_str());
            let taken: Option<Stored<NameRecord>> = records::get(self.store(), &name_key).await?;
            if let Some(taken) = &taken
                && !self.is_abandoned(&taken.record.id).await?
            {
                if wanted.is_none() {
                    continue;
                }
                let detail = format!("app {app:?} has a machine {name}");
                return Err(ApiError::name_taken(&detail));
            }
            let id = MachineId::new(host, rng.bits());
            // A name that is taken over has the revision it was judged by.
            let former = taken.map_or(0, |taken| taken.revision);
            let condition = Compare::Modified(name_key, former);
            if self.write_claim(app, &name, id, condition).await? {
                return Ok((id, name));
            }
        }
        Err(ApiError::new(StatusCode::CONFLICT, "the app is being changed by others; try again"))
    }

    async fn write_claim(
        &self,
        app: &str,
        name: &MachineName,
        id: MachineId,
        condition: Compare,
    ) -> Result<bool, ApiError> {
        // Read again each time: an app that is being deleted takes no machines.
        let Stored { key, revision, record: mut app } = self.app(app).await?;
        let owned = OwnedRecord {
            app: app.name.clone(),
            name: name.to_string(),
            claimed_ms: self.world.clock.now_ms(),
        };
        let id = id.to_string();
        let machine_key = records::machine_key(&id);
        let name_key = records::name_key(&app.name, name.as_str());
        let mut then = vec![
            Op::Put(name_key, encode(&NameRecord { id }), 0),
            Op::Put(machine_key.clone(), encode(&owned), 0),
        ];
        if !app.deployed {
            app.deployed = true;
            then.push(Op::Put(key.clone(), encode(&app), 0));
        }
        let compare =
            vec![Compare::Modified(key, revision), Compare::Absent(machine_key), condition];
        Ok(self.store().txn(Txn { compare, then, otherwise: vec![] }).await?.succeeded)
    }

    /// The machine that holds a name is gone, so that the name is free.
    async fn is_abandoned(&self, id: &str) -> Result<bool, ApiError> {
        let Ok(machine) = id.parse::<MachineId>() else { return Ok(true) };
        let host = self.host(machine)?;
        match host.machine(id).await {
            Ok(machine) => Ok(machine.state == model::life::State::Destroyed.as_str()),
            Err(HostError::NotFound(_)) => {
                let owned: Option<Stored<OwnedRecord>> =
                    records::get(self.store(), &records::machine_key(id)).await?;
                Ok(owned.is_none_or(|owned| self.is_old(&owned.record)))
            }
            Err(err) => Err(err.into()),
        }
    }

    /// The create that made this claim is over, one way or the other.
    pub(crate) fn is_old(&self, owned: &OwnedRecord) -> bool {
        let age = self.world.clock.now_ms().saturating_sub(owned.claimed_ms);
        u128::from(age) > CLAIM_LIVES.as_millis()
    }

    /// Frees a name that `id` holds and, with `forget`, the record of the
    /// machine itself. A name that another machine holds by now stays.
    pub(crate) async fn release(
        &self,
        app: &str,
        name: &str,
        id: &str,
        forget: bool,
    ) -> Result<(), ApiError> {
        let name_key = records::name_key(app, name);
        let held = encode(&NameRecord { id: id.into() });
        let forget = || forget.then(|| Op::Delete(KeyRange::key(records::machine_key(id))));
        let free = Op::Delete(KeyRange::key(&name_key));
        let txn = Txn {
            compare: vec![Compare::Value(name_key, held)],
            then: std::iter::once(free).chain(forget()).collect(),
            otherwise: forget().into_iter().collect(),
        };
        self.store().txn(txn).await?;
        Ok(())
    }

    /// What each host is and has. A host that does not answer takes no machine.
    pub(super) async fn host_infos(&self) -> Result<Vec<HostInfo>, ApiError> {
        let hosts = self.world.hosts.all();
        answered(join_all(hosts.iter().map(|(_, host)| host.info())).await)
    }
}

/// Answers of the hosts that gave one; a failure only if none did.
pub(super) fn answered(
    answers: Vec<Result<HostInfo, HostError>>,
) -> Result<Vec<HostInfo>, ApiError> {
    let mut infos = Vec::new();
    let mut failure = None;
    for answer in answers {
        match answer {
            Ok(info) => infos.push(info),
            Err(err) => failure = Some(err),
        }
    }
    match failure {
        Some(err) if infos.is_empty() => Err(err.into()),
        _ => Ok(infos),
    }
}
