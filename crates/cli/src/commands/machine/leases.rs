//! `updraft machine leases`

use super::{ManyArgs, OneArgs};
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::machines::pick::Tally;
use crate::parse::moment;
use crate::ui::table::table;
use clap::{Args, Subcommand};
use client::{Client, Error};
use wire::machines::Lease;

/// Commands about leases.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    View(ViewArgs),
    Clear(ClearArgs),
}

/// Show the lease of a machine: its holder and its end
#[derive(Clone, Debug, Args)]
#[command(visible_alias = "show")]
pub struct ViewArgs {
    #[command(flatten)]
    which: OneArgs,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

/// End the leases of machines, also those of other holders
#[derive(Clone, Debug, Args)]
pub struct ClearArgs {
    #[command(flatten)]
    which: ManyArgs,
}

pub(super) async fn dispatch(command: Command, cx: &mut Context<'_>) -> Result<()> {
    match command {
        Command::View(args) => view(args, cx).await,
        Command::Clear(args) => clear(args, cx).await,
    }
}

async fn view(args: ViewArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, id) = args.which.resolve(cx).await?;
    let lease = find(&client, &app, &id).await?;
    if args.json {
        return cx.ui().json(&lease);
    }
    let Some(lease) = lease else {
        cx.ui().status(&format!("Machine {id} is not leased"));
        return Ok(());
    };
    let expires = moment(lease.expires_at.saturating_mul(1000));
    let nonce = lease.nonce.unwrap_or_default();
    let row = vec![id, nonce, lease.owner, lease.description, lease.version, expires];
    let header = ["MACHINE", "NONCE", "OWNER", "DESCRIPTION", "VERSION", "EXPIRES"];
    let fit = cx.ui().fit(&["VERSION"]);
    cx.ui().data(&table(&header, &[row], fit))
}

async fn clear(args: ClearArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, ids) = args.which.resolve(cx).await?;
    let mut tally = Tally::default();
    for id in &ids {
        let outcome = clear_one(&client, &app, id).await;
        if let Ok(cleared) = &outcome {
            let text = match cleared {
                true => format!("Cleared the lease of machine {id}"),
                false => format!("Machine {id} is not leased"),
            };
            cx.ui().status(&text);
        }
        tally.note(cx, outcome.map(drop));
    }
    tally.finish()
}

/// Ends the lease with the nonce that the API shows; false if there is none.
async fn clear_one(client: &Client, app: &str, id: &str) -> Result<bool> {
    let Some(lease) = find(client, app, id).await? else { return Ok(false) };
    let nonce = lease.nonce.unwrap_or_default();
    let released = client.release_lease(app, id, &nonce).await;
    released.context(|| format!("clear the lease of machine {id}"))?;
    Ok(true)
}

async fn find(client: &Client, app: &str, id: &str) -> Result<Option<Lease>> {
    match client.lease(app, id).await {
        Ok(lease) => Ok(Some(lease)),
        Err(Error::Api { status: 404, body, .. }) if body.error.starts_with("lease not found") => {
            Ok(None)
        }
        Err(err) => Err(err).context(|| format!("read the lease of machine {id}")),
    }
}
