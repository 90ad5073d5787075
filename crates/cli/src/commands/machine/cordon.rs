//! `updraft machine cordon`, `updraft machine uncordon`

use super::ManyArgs;
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::machines::pick::Tally;
use clap::Args;

#[derive(Clone, Debug, Args)]
pub struct CordonArgs {
    #[command(flatten)]
    which: ManyArgs,
}

pub(super) async fn run(args: CordonArgs, cordon: bool, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, ids) = args.which.resolve(cx).await?;
    let (verb, done) = if cordon { ("cordon", "Cordoned") } else { ("uncordon", "Uncordoned") };
    let mut tally = Tally::default();
    for id in &ids {
        let outcome = client.cordon_machine(&app, id, cordon).await;
        let outcome = outcome.context(|| format!("{verb} machine {id}"));
        if outcome.is_ok() {
            cx.ui().status(&format!("{done} machine {id}"));
        }
        tally.note(cx, outcome);
    }
    tally.finish()
}
