//! All commands. The doc comment of a command's arguments is its help.

mod apps;
mod auth;
mod checks;
mod completions;
mod flyctl_env;
mod host;
mod image;
mod logs;
mod machine;
mod open;
mod orgs;
mod platform;
mod secrets;
mod status;
mod tokens;
mod version;
mod volumes;

use crate::context::Context;
use crate::error::Result;
use clap::Subcommand;

/// Commands that talk to a running platform.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Create, list, restart and destroy apps
    #[command(subcommand, visible_alias = "app")]
    Apps(apps::Command),
    /// Run and manage machines
    #[command(subcommand, visible_aliases = ["machines", "m"])]
    Machine(machine::Command),
    #[expect(missing_docs, reason = "the help is at its arguments")]
    Logs(logs::LogsArgs),
    #[expect(missing_docs, reason = "the help is at its arguments")]
    Status(status::StatusArgs),
    /// See the health checks of an app's machines
    #[command(subcommand)]
    Checks(checks::Command),
    #[expect(missing_docs, reason = "the help is at its arguments")]
    Open(open::OpenArgs),
    /// Import, list and remove images
    #[command(subcommand, visible_alias = "images")]
    Image(image::Command),
    /// See what the hosts have and use
    #[command(subcommand, visible_alias = "hosts")]
    Host(host::Command),
    /// See the platform: its regions, its sizes of machines, its state
    #[command(subcommand)]
    Platform(platform::Command),
    /// Make, list, revoke and narrow tokens
    #[command(subcommand, visible_alias = "token")]
    Tokens(tokens::Command),
    /// Manage organizations and their members
    #[command(subcommand, visible_alias = "org")]
    Orgs(orgs::Command),
    /// See which token is used
    #[command(subcommand)]
    Auth(auth::Command),
    /// Set, list and remove secrets of apps
    #[command(subcommand, visible_alias = "secret")]
    Secrets(secrets::Command),
    /// Create, list, extend and destroy volumes, disks that outlive machines
    #[command(subcommand, visible_aliases = ["volume", "vol"])]
    Volumes(volumes::Command),
    #[expect(missing_docs, reason = "the help is at its arguments")]
    FlyctlEnv(flyctl_env::FlyctlEnvArgs),
    #[expect(missing_docs, reason = "the help is at its arguments")]
    Version(version::VersionArgs),
    #[expect(missing_docs, reason = "the help is at its arguments")]
    Completions(completions::CompletionsArgs),
}

/// Carries out a command; the exit code.
pub(crate) async fn dispatch(
    command: Command,
    root: clap::Command,
    cx: &mut Context<'_>,
) -> Result<u8> {
    match command {
        Command::Apps(command) => apps::dispatch(command, cx).await?,
        Command::Machine(command) => return machine::dispatch(command, cx).await,
        Command::Logs(args) => logs::run(args, cx).await?,
        Command::Status(args) => status::run(args, cx).await?,
        Command::Checks(command) => checks::dispatch(command, cx).await?,
        Command::Open(args) => open::run(args, cx).await?,
        Command::Image(command) => image::dispatch(command, cx).await?,
        Command::Host(command) => host::dispatch(command, cx).await?,
        Command::Platform(command) => platform::dispatch(command, cx).await?,
        Command::Tokens(command) => tokens::dispatch(command, cx).await?,
        Command::Orgs(command) => orgs::dispatch(command, cx).await?,
        Command::Auth(command) => auth::dispatch(command, cx).await?,
        Command::Secrets(command) => secrets::dispatch(command, cx).await?,
        Command::Volumes(command) => volumes::dispatch(command, cx).await?,
        Command::FlyctlEnv(args) => flyctl_env::run(&args, cx).await?,
        Command::Version(args) => version::run(&args, cx)?,
        Command::Completions(args) => completions::run(&args, &root, cx)?,
    }
    Ok(0)
}
