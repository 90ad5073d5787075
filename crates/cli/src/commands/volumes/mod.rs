//! `updraft volumes`: disks that outlive machines. One file per command.

mod create;
mod destroy;
mod extend;
mod list;
mod show;

use crate::context::Context;
use crate::error::Result;
use clap::Subcommand;
use wire::machines::Volume;

/// Commands about volumes.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    List(list::ListArgs),
    Create(create::CreateArgs),
    Show(show::ShowArgs),
    Extend(extend::ExtendArgs),
    Destroy(destroy::DestroyArgs),
}

pub(super) async fn dispatch(command: Command, cx: &mut Context<'_>) -> Result<()> {
    match command {
        Command::List(args) => list::run(args, cx).await,
        Command::Create(args) => create::run(args, cx).await,
        Command::Show(args) => show::run(args, cx).await,
        Command::Extend(args) => extend::run(args, cx).await,
        Command::Destroy(args) => destroy::run(args, cx).await,
    }
}

/// A volume in lines, as `create`, `show` and `extend` print it.
fn described(volume: &Volume, app: &str) -> String {
    let attached = volume.attached_machine_id.as_deref().unwrap_or("-");
    let lines = [
        ("ID", volume.id.as_str()),
        ("Name", &volume.name),
        ("App", app),
        ("State", &volume.state),
        ("Region", &volume.region),
        ("Zone", &volume.zone),
        ("Size GB", &volume.size_gb.to_string()),
        ("File system", &volume.fstype),
        ("Encrypted", if volume.encrypted { "true" } else { "false" }),
        ("Machine", attached),
        ("Created at", &volume.created_at),
    ];
    let lines = lines.map(|(name, value)| format!("{name:>12}: {value}"));
    lines.join("\n")
}
