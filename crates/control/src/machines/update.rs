//! Updating a machine: a new version of its config replaces the current one.

use super::create::resolve_with;
use super::leases;
use super::record::update_record;
use crate::hosts::{self, CHANGE_TIMEOUT, READ_TIMEOUT, within};
use crate::secrets::{self, Delivery};
use crate::{Error, Platform, config, lookup, volumes};
use host_api::{ChangeMetadata, Host, UpdateMachine};
use wire::machines::{ImageRef, LaunchMachine, Machine, MachineConfig};

/// The registry of images that were imported to the platform.
const IMPORTED: &str = "local";

/// Replaces the whole config; the machine keeps its name and region.
///
/// # Errors
/// The request is not valid, the version given is not current, or a host failed.
pub async fn update(
    platform: &Platform,
    app: &str,
    machine: &str,
    launch: LaunchMachine,
) -> Result<Machine, Error> {
    update_with(platform, app, machine, launch, None).await
}

/// The same. With `labels` the labels of the config are not taken: the machine's own are
/// changed so, as they are when its host carries the update out.
pub(super) async fn update_with(
    platform: &Platform,
    app: &str,
    machine: &str,
    mut launch: LaunchMachine,
    labels: Option<ChangeMetadata>,
) -> Result<Machine, Error> {
    let found = lookup::machine(platform, app, machine).await?;
    let lease = leases::of_launch(platform, launch.lease_ttl)?;
    let mut config = checked_config(launch.config.take())?;
    secrets::check_launch(platform, found.record.app, Some(found.id), &launch, &config).await?;
    let version = launch.current_version.as_deref().filter(|version| !version.is_empty());
    let current_version = version.map(str::parse).transpose();
    let current_version = current_version
        .map_err(|err: model::id::BadId| Error::invalid("current_version", err.to_string()))?;
    let own = platform.clone();
    let updated = platform.run_detached(async move {
        let host = hosts::get(&own, found.record.owner)?;
        let here = (found.record.owner, found.id);
        volumes::for_machine(&own, found.record.app, here, &mut config).await?;
        let known = image_in_use(&own, &*host, &found, &config.image).await?;
        let images = resolve_with(&own, &*host, &config, known).await?;
        let update = UpdateMachine {
            id: found.id,
            config,
            image: images.root,
            container_images: images.containers,
            skip_launch: launch.skip_launch == Some(true),
            current_version,
            cordoned: (launch.skip_service_registration == Some(true)).then_some(true),
            skip_secrets: launch.skip_secrets == Some(true),
            lease,
            labels,
        };
        let secrets = Delivery::of(&own, found.record.app).await?;
        let updated = found
            .call_once(&own, CHANGE_TIMEOUT, |host, context, _| {
                let (update, secrets) = (update.clone(), &secrets);
                async move {
                    secrets.put_on(&*host, &context).await?;
                    host.update(context, update).await
                }
            })
            .await?;
        if let Err(err) = update_record(&own, found.id, &updated).await {
            tracing::warn!(machine = %found.id, error = %err, "record an updated machine");
        }
        Ok(updated)
    });
    updated.await
}

/// The config of a create or an update, validated and completed.
pub(super) fn checked_config(config: Option<MachineConfig>) -> Result<MachineConfig, Error> {
    let mut config = config.ok_or_else(|| Error::invalid("config", "is required"))?;
    config::normalize(&mut config);
    config::check(&config)?;
    config::complete(&mut config);
    Ok(config)
}

/// The image that the machine runs already, if the config names it as before and
/// it was imported under a name that is removed: a registry may have another image
/// of that name, which has not been requested.
async fn image_in_use(
    platform: &Platform,
    host: &dyn Host,
    found: &lookup::Machine,
    image: &str,
) -> Result<Option<ImageRef>, Error> {
    if image.is_empty() {
        return Ok(None);
    }
    let current = found
        .call(platform, READ_TIMEOUT, async |host, context, id| host.machine(context, id).await)
        .await?;
    let named_as_before = current.config.is_some_and(|config| config.image == image);
    let ImageRef { registry, repository, tag, .. } = &current.image_ref;
    if !named_as_before || registry != IMPORTED || tag.is_empty() {
        return Ok(None);
    }
    let name = format!("{repository}:{tag}");
    let images = within(READ_TIMEOUT, host.images(platform.context(READ_TIMEOUT))).await?;
    let known = images.iter().any(|image| image.references.contains(&name));
    Ok((!known).then_some(current.image_ref))
}
