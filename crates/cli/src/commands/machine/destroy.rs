//! `updraft machine destroy`

use super::ManyArgs;
use crate::context::Context;
use crate::error::{ErrorContext, Exit, Result};
use crate::machines::pick::Tally;
use clap::Args;
use client::{Client, Destroy, ListMachines};
use wire::machines::Machine;

/// Destroy machines
///
/// A machine that runs is only destroyed with --force.
#[derive(Clone, Debug, Args)]
#[command(visible_aliases = ["remove", "rm"])]
pub struct DestroyArgs {
    #[command(flatten)]
    which: ManyArgs,
    /// Also destroy machines that run
    #[arg(short, long)]
    force: bool,
    /// All machines of the app that run this image
    #[arg(short, long, conflicts_with_all = ["ids", "select"])]
    image: Option<String>,
}

pub(super) async fn run(args: DestroyArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, ids) = match &args.image {
        None => args.which.resolve(cx).await?,
        Some(image) => {
            let (app, client) = (cx.app(&args.which.app).await?, cx.client()?);
            let ids = of_image(&client, &app, image).await?;
            if ids.is_empty() {
                cx.ui().status(&format!("No machine of app {app} runs {image}"));
            }
            (client, app, ids)
        }
    };
    let how = if args.force { Destroy::Force } else { Destroy::IfDown };
    let mut tally = Tally::default();
    for id in &ids {
        let gone = client.destroy_machine(&app, id, how).await;
        let gone = gone.context(|| format!("destroy machine {id}")).map_err(|err| match err.kind {
            Exit::Conflict if err.hints.is_empty() && how == Destroy::IfDown => err
                .hint(format!("Stop it with `updraft machine stop {id} -a {app}`."))
                .hint(format!("Or use `updraft machine destroy --force {id} -a {app}`.")),
            _ => err,
        });
        if gone.is_ok() {
            cx.ui().status(&format!("Destroyed machine {id}"));
        }
        tally.note(cx, gone);
    }
    tally.finish()
}

async fn of_image(client: &Client, app: &str, image: &str) -> Result<Vec<String>> {
    let all = client.machines(app, &ListMachines::default()).await;
    let all = all.context(|| format!("list the machines of app {app}"))?;
    let runs = |machine: &Machine| {
        let there = !matches!(machine.state.as_str(), "destroying" | "destroyed");
        there && machine.config.as_ref().is_some_and(|config| config.image == image)
    };
    Ok(all.into_iter().filter(runs).map(|m| m.id).collect())
}
