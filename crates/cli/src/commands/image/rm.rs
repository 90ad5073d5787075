//! `updraft image rm`

use crate::complete;
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::machines::pick::Tally;
use clap::Args;

/// Remove images
#[derive(Clone, Debug, Args)]
#[command(visible_aliases = ["remove", "delete"])]
pub struct RmArgs {
    /// Names or digests
    #[arg(required = true, add = complete::images())]
    references: Vec<String>,
}

pub(super) async fn run(args: RmArgs, cx: &mut Context<'_>) -> Result<()> {
    let client = cx.client()?;
    let mut tally = Tally::default();
    for reference in &args.references {
        let gone = client.remove_image(reference).await;
        let gone = gone.context(|| format!("remove image {reference}"));
        if gone.is_ok() {
            cx.ui().status(&format!("Removed {reference}"));
        }
        tally.note(cx, gone);
    }
    tally.finish()
}
