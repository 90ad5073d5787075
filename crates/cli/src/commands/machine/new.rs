//! The arguments that `machine run`, `machine create` and the shell of `machine run --shell`
//! share: the arguments of a new machine, its app and its config.

use super::config_flags::ConfigArgs;
use super::standby::StandbyArgs;
use crate::commands::apps::create::make;
use crate::complete;
use crate::context::{AppArgs, Context};
use crate::error::{CliError, ErrorContext, Exit, Result};
use clap::Args;
use client::Client;
use wire::machines::{App, Container, MachineConfig, Restart};

/// The arguments that run and create share.
#[derive(Clone, Debug, Args)]
pub(crate) struct NewArgs {
    /// Image to run, by name, tag or digest
    #[arg(add = complete::images())]
    pub(super) image: Option<String>,
    /// Command to run in place of the image's
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub(super) words: Vec<String>,
    #[command(flatten)]
    pub(super) app: AppArgs,
    /// Name of the machine; generated if absent
    #[arg(short, long)]
    pub(super) name: Option<String>,
    /// Region, or several in order of preference
    #[arg(short, long, add = complete::regions())]
    pub(super) region: Option<String>,
    /// Organisation of an app that is made for the machine
    #[arg(long, add = complete::orgs())]
    pub(super) org: Option<String>,
    /// Destroy the machine when its main process has ended
    #[arg(long)]
    pub(super) rm: bool,
    #[command(flatten)]
    pub(super) flags: ConfigArgs,
    #[command(flatten)]
    pub(super) standby: StandbyArgs,
    /// Create the app if there is none of that name
    #[arg(short, long, alias = "auto-confirm")]
    pub(super) yes: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// The app, made if it is missing and that is wanted.
pub(super) async fn app(
    args: &NewArgs,
    cx: &mut Context<'_>,
    client: &Client,
    name: &str,
) -> Result<App> {
    match client.app(name).await {
        Err(err) if err.is_not_found() => {
            let question = format!("There is no app {name}. Create it?");
            if !args.yes && !cx.ui().term.stdin {
                let missing = Err(err).context(|| format!("find app {name}"));
                let hint = format!("Create it with `updraft apps create {name}`, or give --yes.");
                return missing.map_err(|err| CliError { hints: vec![hint], ..err });
            }
            if !cx.ui().confirm(&question, args.yes)? {
                return Err(CliError::new(Exit::NotFound, format!("There is no app {name}")));
            }
            make(client, name, args.org.as_deref()).await?;
            cx.ui().status(&format!("New app created: {name}"));
            client.app(name).await
        }
        found => found,
    }
    .context(|| format!("find app {name}"))
}

/// The config that the flags ask for.
pub(super) fn config(args: &NewArgs, cx: &Context<'_>) -> Result<MachineConfig> {
    let cwd = &cx.env.cwd;
    let mut config = args.flags.base(cwd)?.unwrap_or_default();
    if let Some(image) = &args.image {
        refuse_build(image)?;
        args.flags.target(&mut config)?.set_image(image);
    }
    if !has_image(&config) {
        let error = CliError::usage("No image is given");
        return Err(error.hint("Give one; `updraft image list` shows those that are here."));
    }
    if !args.words.is_empty() {
        args.flags.target(&mut config)?.set_command(Some(args.words.clone()));
    }
    args.flags.apply(&mut config, cwd)?;
    if args.rm {
        config.auto_destroy = Some(true);
    }
    let restart = config.restart.get_or_insert_with(Restart::default);
    if restart.policy.is_none() {
        // As flyctl does: a job ends, a scheduled one is tried again, all else stays up.
        let policy = match (args.rm, &config.schedule) {
            (true, _) => "no",
            (false, Some(_)) => "on-failure",
            (false, None) => "always",
        };
        restart.policy = Some(policy.to_owned());
    }
    for service in config.services.iter_mut().flatten() {
        service.autostart.get_or_insert(true);
    }
    Ok(config)
}

/// Each of its containers, or the machine itself, has an image.
fn has_image(config: &MachineConfig) -> bool {
    let containers = config.containers.as_deref().unwrap_or_default();
    let own = |one: &Container| one.image.as_ref().is_some_and(|image| !image.is_empty());
    !config.image.is_empty() || (!containers.is_empty() && containers.iter().all(own))
}

/// flyctl takes a directory for one to build from.
pub(super) fn refuse_build(image: &str) -> Result<()> {
    let is_path =
        image == "." || image == ".." || ["./", "../", "/"].iter().any(|p| image.starts_with(p));
    if !is_path {
        return Ok(());
    }
    Err(CliError::usage(format!("Cannot build an image from {image}"))
        .because("Images are not built here yet; this is a directory, not the name of an image")
        .hint("Build it elsewhere, and `docker save NAME | updraft image import -` brings it here.")
        .hint("Then give its name."))
}
