//! `updraft machine clone`

use super::OneArgs;
use super::config_flags::words;
use super::run::started;
use super::size_flags::SizeArgs;
use super::standby::{self, StandbyArgs, is_standby};
use super::target::Target;
use crate::complete;
use crate::context::Context;
use crate::error::{CliError, ErrorContext, Result};
use crate::flyctl::flags::{CloneMachine, Unsupported};
use crate::machines::pick::GROUP;
use crate::parse::duration;
use clap::Args;
use client::Client;
use std::time::Duration;
use wire::machines::{CreateVolume, LaunchMachine, Machine, MachineConfig};

/// Make a machine like another one
///
/// The new machine has the other's config, its image by digest, an empty disk, and new empty
/// volumes of the names and sizes of the other's. Waits until it runs and its health checks pass.
#[derive(Clone, Debug, Args)]
pub struct CloneArgs {
    #[command(flatten)]
    which: OneArgs,
    /// Name of the new machine; generated if absent
    #[arg(short, long)]
    name: Option<String>,
    /// Region, or several in order of preference [default: that of the other machine]
    #[arg(short, long, add = complete::regions())]
    region: Option<String>,
    #[command(flatten)]
    size: SizeArgs,
    /// Process group of the new machine
    #[arg(long, value_name = "GROUP")]
    process_group: Option<String>,
    /// Keep the new machine when its main process has ended
    #[arg(long)]
    clear_auto_destroy: bool,
    /// Run the image's own command
    #[arg(long)]
    clear_cmd: bool,
    /// Command to run in place of the image's, split as a shell would
    #[arg(long, value_name = "COMMAND", conflicts_with = "clear_cmd")]
    override_cmd: Option<String>,
    #[command(flatten)]
    standby: StandbyArgs,
    /// Do not wait until the machine runs and its health checks pass
    #[arg(long)]
    detach: bool,
    /// Wait for at most this long
    #[arg(long, value_name = "TIME", default_value = "5m0s", value_parser = duration)]
    wait_timeout: Duration,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
    #[command(flatten)]
    unsupported: Unsupported<CloneMachine>,
}

pub(super) async fn run(mut args: CloneArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, id) = args.which.take().resolve(cx).await?;
    let source = client.machine(&app, &id).await.context(|| format!("show machine {id}"))?;
    let mut config = cloned(&args, &source)?;
    args.standby.apply(&mut config, &client, &app, Some(&source.id)).await?;
    let standby = is_standby(&config).then(|| config.clone());
    let region = args.region.unwrap_or(source.region);
    cx.ui().status(&format!("Cloning machine {} into region {region}", source.id));
    new_volumes(&mut config, &client, &app, &region, cx).await?;
    cx.ui().status(&format!("Provisioning a new machine with image {}...", config.image));
    let ask = LaunchMachine {
        config: Some(config),
        name: args.name,
        region: Some(region),
        skip_launch: standby.is_some().then_some(true),
        ..LaunchMachine::default()
    };
    let spinner = cx.ui().spinner("Preparing the image");
    let made = client.create_machine(&app, &ask).await;
    drop(spinner);
    let made = made.context(|| format!("clone machine {}", source.id))?;
    cx.ui().status(&format!("  Machine {} has been created...", made.id));
    if let Some(config) = &standby {
        standby::explain(cx, &made.id, config);
    } else if !args.detach {
        cx.ui().status(&format!("  Waiting for machine {} to start...", made.id));
        let reached = started(cx, &client, &app, &made, args.wait_timeout).await?;
        cx.ui().status(&format!("Machine {} is {reached}", made.id));
    }
    cx.ui().status("Machine has been successfully cloned!");
    if args.json {
        let now = client.machine(&app, &made.id).await.unwrap_or(made);
        return cx.ui().json(&now);
    }
    cx.ui().data(&made.id)
}

/// Makes an empty volume for each mount: those of the other machine stay with it.
async fn new_volumes(
    config: &mut MachineConfig,
    client: &Client,
    app: &str,
    region: &str,
    cx: &mut Context<'_>,
) -> Result<()> {
    for mount in config.mounts.iter_mut().flatten() {
        let name = mount.name.clone().unwrap_or_default();
        let ask = CreateVolume {
            name: name.clone(),
            region: Some(region.to_owned()),
            size_gb: mount.size_gb,
            encrypted: mount.encrypted,
            ..CreateVolume::default()
        };
        let made = client.create_volume(app, &ask).await;
        let made = made.context(|| format!("create volume {name} for the new machine"))?;
        cx.ui().status(&format!("  Volume {} ({name}) has been created...", made.id));
        mount.volume = Some(made.id);
    }
    Ok(())
}

/// The config of the new machine.
fn cloned(args: &CloneArgs, source: &Machine) -> Result<MachineConfig> {
    let mut config = source.config.as_deref().cloned().ok_or_else(|| {
        CliError::failed(format!("Cannot clone machine {}", source.id))
            .because("Its host does not answer, so its config is not known in full")
            .hint("Try again when the host is back; `updraft host status` shows the hosts.")
    })?;
    config.image = pinned(&config.image, &source.image_ref.digest);
    args.size.apply(&mut config);
    if let Some(group) = &args.process_group {
        let labels = config.metadata.get_or_insert_default();
        labels.insert(GROUP.to_owned(), group.clone());
    }
    if args.clear_auto_destroy {
        config.auto_destroy = None;
    }
    if args.clear_cmd || args.override_cmd.is_some() {
        let command = match &args.override_cmd {
            Some(command) => words("--override-cmd", command)?,
            None => None,
        };
        let mut target = Target::of(&mut config, None)?;
        // It would replace the command, too.
        target.clear_exec();
        target.set_command(command);
    }
    Ok(config)
}

/// The image that the other machine runs, also if its name leads to another one by now.
fn pinned(image: &str, digest: &str) -> String {
    let name = image.split('@').next().unwrap_or_default();
    match digest.is_empty() || image.is_empty() || image.starts_with("sha256:") {
        true => image.to_owned(),
        false => format!("{name}@{digest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_pinned_to_what_the_other_machine_runs() {
        for (image, digest, expected) in [
            ("web:1", "sha256:aa", "web:1@sha256:aa"),
            ("host:5000/web", "sha256:aa", "host:5000/web@sha256:aa"),
            ("web:1@sha256:bb", "sha256:aa", "web:1@sha256:aa"),
            ("sha256:bb", "sha256:bb", "sha256:bb"),
            ("web:1", "", "web:1"),
            ("", "sha256:aa", ""),
        ] {
            assert_eq!(pinned(image, digest), expected, "{image} {digest}");
        }
    }
}
