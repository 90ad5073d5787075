//! `updraft image list`

use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::parse::human_bytes;
use crate::ui::table::table;
use clap::Args;

/// List images
#[derive(Clone, Debug, Args)]
#[command(visible_alias = "ls")]
pub struct ListArgs {
    /// Print JSON
    #[arg(short, long)]
    json: bool,
    /// Print references only
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run(args: ListArgs, cx: &mut Context<'_>) -> Result<()> {
    let images = cx.client()?.images().await.context(|| "list images".into())?;
    if args.json {
        return cx.ui().json(&images);
    }
    let mut rows = Vec::new();
    for image in images {
        let digest: String = image.digest.trim_start_matches("sha256:").chars().take(12).collect();
        let mut references = image.references;
        if references.is_empty() {
            references.push(if args.quiet { image.digest } else { "<none>".to_owned() });
        }
        for reference in references {
            let (size, used) = (human_bytes(image.size), image.used_by.to_string());
            rows.push(vec![reference, digest.clone(), size, image.created_at.clone(), used]);
        }
    }
    if args.quiet {
        let names: String = rows.iter().map(|row| format!("{}\n", row[0])).collect();
        return cx.ui().bytes(names.as_bytes());
    }
    let fit = cx.ui().fit(&["CREATED"]);
    cx.ui().data(&table(&["REFERENCE", "DIGEST", "SIZE", "CREATED", "MACHINES"], &rows, fit))
}
