//! `updraft apps destroy`

use crate::complete;
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::machines::pick::Tally;
use clap::Args;

/// Destroy apps with all their machines
#[derive(Clone, Debug, Args)]
pub struct DestroyArgs {
    /// Names of the apps
    #[arg(required = true, add = complete::apps())]
    names: Vec<String>,
    /// Answer yes to every question
    #[arg(short, long, alias = "auto-confirm")]
    yes: bool,
}

pub(super) async fn run(args: DestroyArgs, cx: &mut Context<'_>) -> Result<()> {
    let client = cx.client()?;
    let mut tally = Tally::default();
    for name in &args.names {
        let question = format!("Destroy app {name} with all its machines?");
        match cx.ui().confirm(&question, args.yes) {
            Ok(true) => {}
            Ok(false) => {
                cx.ui().status(&format!("App {name} stays."));
                continue;
            }
            // The failures of earlier apps are shown before this one.
            Err(error) => {
                tally.note(cx, Err(error));
                break;
            }
        }
        let gone = client.delete_app(name, true).await.context(|| format!("destroy app {name}"));
        if gone.is_ok() {
            cx.ui().status(&format!("Destroyed app {name}"));
        }
        tally.note(cx, gone);
    }
    tally.finish()
}
