//! `updraft machine`

mod api_proxy;
mod clone;
mod config_flags;
mod cordon;
mod destroy;
mod events;
mod exec;
mod kill;
mod leases;
mod list;
mod metadata;
mod new;
mod place;
pub(super) mod restart;
mod run;
mod runs;
mod shell;
mod size_flags;
mod standby;
mod start;
mod status;
mod stop;
mod suspend;
mod target;
mod trigger;
mod update;
mod wait;

use crate::complete;
use crate::context::{AppArgs, Context};
use crate::error::Result;
use crate::machines::pick;
use clap::{Args, Subcommand};
use client::Client;

/// Commands about machines.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    Run(Box<run::RunArgs>),
    Create(Box<run::CreateArgs>),
    Clone(Box<clone::CloneArgs>),
    List(list::ListArgs),
    Status(status::StatusArgs),
    Events(events::EventsArgs),
    Start(start::StartArgs),
    Stop(stop::StopArgs),
    Suspend(suspend::SuspendArgs),
    Restart(restart::RestartArgs),
    Update(Box<update::UpdateArgs>),
    Destroy(destroy::DestroyArgs),
    Exec(exec::ExecArgs),
    Kill(kill::KillArgs),
    Wait(wait::WaitArgs),
    /// See and clear leases of machines
    #[command(subcommand, visible_alias = "lease")]
    Leases(leases::Command),
    /// See and change labels of a machine
    #[command(subcommand)]
    Metadata(metadata::Command),
    Runs(runs::RunsArgs),
    Trigger(trigger::TriggerArgs),
    Place(Box<place::PlaceArgs>),
    ApiProxy(api_proxy::ApiProxyArgs),
    /// Take machines out of routing
    Cordon(cordon::CordonArgs),
    /// Bring machines back into routing
    Uncordon(cordon::CordonArgs),
}

pub(super) async fn dispatch(command: Command, cx: &mut Context<'_>) -> Result<u8> {
    match command {
        Command::Run(args) if args.shell => return shell::run(*args, cx).await,
        Command::Run(args) => return run::run(*args, cx).await,
        Command::Create(args) => run::create(*args, cx).await?,
        Command::Clone(args) => clone::run(*args, cx).await?,
        Command::List(args) => list::run(args, cx).await?,
        Command::Status(args) => status::run(args, cx).await?,
        Command::Events(args) => events::run(args, cx).await?,
        Command::Start(args) => start::run(args, cx).await?,
        Command::Stop(args) => stop::run(args, cx).await?,
        Command::Suspend(args) => suspend::run(args, cx).await?,
        Command::Restart(args) => restart::run(args, cx).await?,
        Command::Update(args) => update::run(*args, cx).await?,
        Command::Destroy(args) => destroy::run(args, cx).await?,
        Command::Metadata(command) => metadata::dispatch(command, cx).await?,
        Command::Runs(args) => runs::run(args, cx).await?,
        Command::Trigger(args) => trigger::run(args, cx).await?,
        Command::Place(args) => place::run(*args, cx).await?,
        Command::ApiProxy(args) => api_proxy::run(args, cx).await?,
        Command::Exec(args) => return exec::run(args, cx).await,
        Command::Kill(args) => kill::run(args, cx).await?,
        Command::Leases(command) => leases::dispatch(command, cx).await?,
        Command::Wait(args) => wait::run(args, cx).await?,
        Command::Cordon(args) => cordon::run(args, true, cx).await?,
        Command::Uncordon(args) => cordon::run(args, false, cx).await?,
    }
    Ok(0)
}

/// One machine, as calls of the API name it.
#[derive(Clone, Copy, Debug)]
struct MachineRef<'a> {
    client: &'a Client,
    app: &'a str,
    id: &'a str,
}

/// Which machines are meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct ManyArgs {
    /// Ids or names of the machines; chosen from a list if absent
    #[arg(value_name = "ID", add = complete::machines())]
    ids: Vec<String>,
    /// Choose the machines from a list
    #[arg(long, conflicts_with = "ids")]
    select: bool,
    #[command(flatten)]
    app: AppArgs,
}

/// Which machine is meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct OneArgs {
    /// Id or name of the machine; chosen from a list if absent
    #[arg(value_name = "ID", add = complete::machines())]
    id: Option<String>,
    /// Choose the machine from a list
    #[arg(long, conflicts_with = "id")]
    select: bool,
    #[command(flatten)]
    app: AppArgs,
}

impl ManyArgs {
    /// The API, the app and the machines.
    async fn resolve(self, cx: &mut Context<'_>) -> Result<(Client, String, Vec<String>)> {
        let app = cx.app(&self.app).await?;
        let client = cx.client()?;
        let ids = pick::machines(cx, &client, &app, self.ids).await?;
        Ok((client, app, ids))
    }
}

impl OneArgs {
    /// Taken out of the arguments of a command, which has more.
    fn take(&mut self) -> Self {
        Self { id: self.id.take(), select: self.select, app: self.app.clone() }
    }

    /// The API, the app and the machine.
    async fn resolve(self, cx: &mut Context<'_>) -> Result<(Client, String, String)> {
        let app = cx.app(&self.app).await?;
        let client = cx.client()?;
        let id = pick::one(cx, &client, &app, self.id).await?;
        Ok((client, app, id))
    }
}
