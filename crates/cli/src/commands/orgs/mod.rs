//! `updraft orgs`

mod changes;
mod members;
mod reads;

use crate::context::Context;
use crate::error::Result;
use clap::Subcommand;

/// The organization that every platform has.
const PERSONAL: &str = "personal";

/// Commands about organizations.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    List(reads::ListArgs),
    Show(reads::ShowArgs),
    Create(changes::CreateArgs),
    Delete(changes::DeleteArgs),
    Invite(members::InviteArgs),
    Remove(members::RemoveArgs),
}

pub(super) async fn dispatch(command: Command, cx: &mut Context<'_>) -> Result<()> {
    match command {
        Command::List(args) => reads::list(args, cx).await,
        Command::Show(args) => reads::show(args, cx).await,
        Command::Create(args) => changes::create(args, cx).await,
        Command::Delete(args) => changes::delete(args, cx).await,
        Command::Invite(args) => members::invite(args, cx).await,
        Command::Remove(args) => members::remove(args, cx).await,
    }
}
