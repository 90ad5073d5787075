//! `updraft image rm`

use crate::complete;
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::machines::pick::Tally;
use clap::Args;
use wire::machines::Image;

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
    // Only for a note, so a failure is ignored.
    let images = client.images().await.unwrap_or_default();
    for reference in &args.references {
        let gone = client.remove_image(reference).await;
        let gone = gone.context(|| format!("remove image {reference}"));
        if gone.is_ok() {
            cx.ui().status(&format!("Removed {reference}"));
            let named = |image: &&Image| image.references.contains(reference);
            let used = images.iter().find(named).map_or(0, |image| image.used_by);
            if used > 0 {
                let machines = if used == 1 { "1 machine keeps" } else { "{n} machines keep" };
                let machines = machines.replace("{n}", &used.to_string());
                cx.ui().status(&format!("{machines} the image that had this name"));
            }
        }
        tally.note(cx, gone);
    }
    tally.finish()
}
