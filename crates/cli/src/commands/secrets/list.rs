//! `updraft secrets list`

use super::rollout::{is_in, runs};
use crate::context::{AppArgs, Context};
use crate::error::{ErrorContext, Result};
use crate::ui::table::table;
use clap::Args;
use client::ListMachines;
use serde::Serialize;
use wire::machines::Machine;
use wire::secrets::{AppSecret, SecretScope};

/// List the secrets of an app: names, digests and whether machines have them
///
/// Staged: no machine that runs has the value yet. Partial: some have. Deployed: all have. If no
/// machine runs, it counts which had the value when they ran last.
/// Unknown: the host of a machine does not answer.
#[derive(Clone, Debug, Args)]
#[command(visible_alias = "ls")]
pub struct ListArgs {
    #[command(flatten)]
    app: AppArgs,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

/// A secret with its status.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    secret: &'a AppSecret,
    status: &'static str,
}

pub(super) async fn run(args: ListArgs, cx: &mut Context<'_>) -> Result<()> {
    let app = cx.app(&args.app).await?;
    let client = cx.client()?;
    let list = client.secrets(&app).await.context(|| format!("list the secrets of app {app}"))?;
    let machines = match list.secrets.is_empty() {
        true => Vec::new(),
        false => client
            .machines(&app, &ListMachines::default())
            .await
            .context(|| format!("list the machines of app {app}"))?,
    };
    let listed: Vec<Listed<'_>> = list
        .secrets
        .iter()
        .map(|secret| Listed { secret, status: status(secret, &machines) })
        .collect();
    if args.json {
        return cx.ui().json(&listed);
    }
    let rows: Vec<_> = listed.iter().map(row).collect();
    let fit = cx.ui().fit(&["SCOPE", "UPDATED AT"]);
    cx.ui().data(&table(&["NAME", "DIGEST", "STATUS", "SCOPE", "UPDATED AT"], &rows, fit))?;
    if listed.iter().any(|secret| matches!(secret.status, "Staged" | "Partial")) {
        let text = format!("`updraft secrets deploy -a {app}` brings staged secrets to machines.");
        cx.ui().status(&text);
    }
    Ok(())
}

fn row(Listed { secret, status }: &Listed<'_>) -> Vec<String> {
    // As flyctl marks them.
    let mark = match *status {
        "Staged" => "* ",
        "Partial" => "! ",
        _ => "",
    };
    let scope = match &secret.scope {
        None => String::new(),
        Some(SecretScope::Group(group)) => format!("group {group}"),
        Some(SecretScope::Machine(id)) => format!("machine {id}"),
    };
    vec![
        format!("{mark}{}", secret.name),
        secret.digest.clone(),
        (*status).to_owned(),
        scope,
        secret.updated_at.clone().unwrap_or_default(),
    ]
}

/// How many of the machines that run have been given the value, or of all if none runs.
fn status(secret: &AppSecret, machines: &[Machine]) -> &'static str {
    let wanted = secret.since_version.unwrap_or(0);
    let concerned: Vec<&Machine> =
        machines.iter().filter(|m| is_in(secret.scope.as_ref(), m)).collect();
    let has = |machine: &&&Machine| machine.secrets_version.unwrap_or(0) >= wanted;
    let running: Vec<&Machine> = concerned.iter().copied().filter(|m| runs(m)).collect();
    let is_unknown = concerned.iter().any(|machine| machine.state == "unknown");
    // Where none runs, those that had the value when they ran show that it is not a new one.
    let counted = if running.is_empty() { &concerned } else { &running };
    let up_to_date = counted.iter().filter(has).count();
    match (up_to_date, counted.len()) {
        (0, _) if running.is_empty() && is_unknown => "Unknown",
        (0, _) => "Staged",
        (some, all) if some < all => "Partial",
        _ => "Deployed",
    }
}
