//! `updraft platform`

mod regions;
mod status;
mod vm_sizes;

use crate::context::Context;
use crate::error::Result;
use clap::Subcommand;

/// Commands about the platform.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    Regions(regions::RegionsArgs),
    Status(status::StatusArgs),
    VmSizes(vm_sizes::VmSizesArgs),
}

pub(super) async fn dispatch(command: Command, cx: &mut Context<'_>) -> Result<()> {
    match command {
        Command::Regions(args) => regions::run(args, cx).await,
        Command::Status(args) => status::run(&args, cx).await,
        Command::VmSizes(args) => vm_sizes::run(&args, cx),
    }
}
