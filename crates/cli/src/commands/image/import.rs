//! `updraft image import`

use super::tarball;
use crate::context::Context;
use crate::error::{CliError, Doing, Result, from_client};
use crate::parse::human_bytes;
use crate::progress::Steps;
use clap::Args;
use std::path::PathBuf;
use wire::machines::ImageProgress;

/// Import an image from this machine
///
/// PATH is an OCI image layout (a directory, or a tar of one) or a tar of
/// `docker save`. The image is sent to the platform as it is read.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// Directory or tar file
    path: PathBuf,
    /// Name it gets, REPOSITORY[:TAG]; else the names it brings along
    #[arg(short, long)]
    name: Option<String>,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn run(args: ImportArgs, cx: &mut Context<'_>) -> Result<()> {
    let path = cx.env.cwd.join(&args.path);
    let client = cx.client()?;
    let attempt = || format!("import {}", path.display());
    let (body, reading) = tarball::stream(&path)?;
    let mut steps = Steps::new(cx.ui());
    let mut lines = match client.import_image(args.name.as_deref(), body).await {
        Ok(lines) => lines,
        // Why our own reading failed says more than that the request broke.
        Err(err) => {
            return Err(reading.error().unwrap_or_else(|| from_client(&err, &attempt())));
        }
    };
    let image = loop {
        let line = lines.next().await.doing(attempt);
        match line.map_err(|err| reading.error().unwrap_or(err))? {
            Some(ImageProgress::Done { image }) => break image,
            Some(ImageProgress::Failed { error }) => {
                let failed = CliError::failed(format!("Cannot {}", attempt())).because(error.error);
                return Err(match error.hint {
                    Some(hint) => failed.hint(hint),
                    None => failed.hint("It must be an OCI layout or the tar of `docker save`."),
                });
            }
            Some(step) => steps.show(cx.ui(), &step),
            None => {
                let failed = CliError::failed(format!("Cannot {}", attempt()));
                return Err(failed.because("The server ended before it was done"));
            }
        }
    };
    steps.finish();
    if args.json {
        return cx.ui().json(&image);
    }
    let name = image.references.first().unwrap_or(&image.digest);
    cx.ui().status(&format!("Imported {}, {}", image.digest, human_bytes(image.size)));
    cx.ui().data(name)
}
