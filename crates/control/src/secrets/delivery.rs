//! Secrets on their way to the hosts that start machines of the app.

use super::{open, record};
use crate::hosts::{self, CHANGE_TIMEOUT, within};
use crate::{Error, Platform, lookup};
use host_api::{AppSecrets, CallContext, Host, HostError, ScopedSecret};
use model::id::{AppId, HostId};
use std::collections::BTreeSet;
use store::records::{self, AppSecretsRecord, Listed, NameRecord};

/// The newest secrets of an app, for the host that is about to start a machine of it.
#[derive(Clone, Debug)]
pub(crate) struct Delivery(Option<AppSecrets>);

impl Delivery {
    /// Reads and opens the secrets of an app.
    pub(crate) async fn of(platform: &Platform, app: AppId) -> Result<Self, Error> {
        let stored = record(platform, app).await?;
        // An app that never had secrets has none on any host either.
        Ok(Self(stored.map(|stored| opened(platform, app, &stored.record)).transpose()?))
    }

    /// Sends them to a host. One that has them already does nothing.
    pub(crate) async fn put_on(
        &self,
        host: &dyn Host,
        context: &CallContext,
    ) -> Result<(), HostError> {
        match &self.0 {
            Some(secrets) => host.put_secrets(context.clone(), secrets.clone()).await,
            None => Ok(()),
        }
    }
}

fn opened(platform: &Platform, app: AppId, record: &AppSecretsRecord) -> Result<AppSecrets, Error> {
    let opened = record.secrets.iter().map(|secret| {
        let value = open(platform, app, secret)?;
        Ok(ScopedSecret { name: secret.name.clone(), scope: secret.scope.clone(), value })
    });
    let secrets = opened.collect::<Result<Vec<_>, Error>>()?;
    Ok(AppSecrets { app, version: record.version, secrets })
}

/// Sends the secrets of an app to the hosts that have machines of it: starts by requests
/// of the edge and by the restart policy take what the host has.
///
/// # Errors
/// Some host could not be sent them; the others have been.
pub(crate) async fn deliver_to_owners(platform: &Platform, app: AppId) -> Result<(), Error> {
    let Some(stored) = record(platform, app).await? else { return Ok(()) };
    let version = stored.record.version;
    let owners = owners(platform, app).await?;
    let is_missing = |host: &HostId| !platform.delivered().has(*host, app, version);
    let missing: Vec<HostId> = owners.into_iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let delivery = Delivery(Some(opened(platform, app, &stored.record)?));
    let sent = missing.iter().map(|id| async {
        let host = hosts::get(platform, *id)?;
        let context = platform.context(CHANGE_TIMEOUT);
        within(CHANGE_TIMEOUT, delivery.put_on(&*host, &context)).await?;
        platform.delivered().confirm(*id, app, version);
        Ok::<_, Error>(())
    });
    let sent = futures_util::future::join_all(sent).await;
    sent.into_iter().find(Result::is_err).unwrap_or(Ok(()))
}

/// The hosts that have machines of an app.
async fn owners(platform: &Platform, app: AppId) -> Result<BTreeSet<HostId>, Error> {
    let names: Listed<NameRecord> = lookup::list(platform, &records::names_of(app)).await?;
    let mut owners = BTreeSet::new();
    for name in names.records {
        let found = lookup::by_id(platform, name.record.id).await?;
        owners.extend(found.map(|machine| machine.record.owner));
    }
    Ok(owners)
}
