//! `updraft volumes destroy`

use crate::context::{AppArgs, Context};
use crate::error::{ErrorContext, Result};
use crate::machines::pick::Tally;
use clap::Args;

/// Destroy volumes with everything on them
///
/// A volume that a machine has is not destroyed, whether the machine runs or not.
#[derive(Clone, Debug, Args)]
#[command(visible_aliases = ["rm", "delete"])]
pub struct DestroyArgs {
    /// Ids of the volumes
    #[arg(required = true)]
    volumes: Vec<String>,
    #[command(flatten)]
    app: AppArgs,
    /// Answer yes to every question
    #[arg(short, long, alias = "auto-confirm")]
    yes: bool,
}

pub(super) async fn run(args: DestroyArgs, cx: &mut Context<'_>) -> Result<()> {
    let app = cx.app(&args.app).await?;
    let client = cx.client()?;
    let mut tally = Tally::default();
    for id in &args.volumes {
        let question = format!("Destroy volume {id} of app {app}? There is no way back.");
        match cx.ui().confirm(&question, args.yes) {
            Ok(true) => {}
            Ok(false) => {
                cx.ui().status(&format!("Volume {id} stays."));
                continue;
            }
            Err(error) => {
                tally.note(cx, Err(error));
                break;
            }
        }
        let gone = client.destroy_volume(&app, id).await.map(drop);
        let gone = gone.context(|| format!("destroy volume {id}"));
        if gone.is_ok() {
            cx.ui().status(&format!("Destroyed volume {id}"));
        }
        tally.note(cx, gone);
    }
    tally.finish()
}
