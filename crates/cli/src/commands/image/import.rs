//! `updraft image import`

use super::naming;
use super::tarball::{self, Source};
use crate::context::Context;
use crate::error::{CliError, ErrorContext, Result, from_client};
use crate::parse::human_bytes;
use crate::ui::progress::Steps;
use clap::Args;
use std::path::PathBuf;
use wire::machines::ImageProgress;

/// Import an image from this machine
///
/// PATH is an OCI image layout (a directory, or a tar of one), a tar of `docker
/// save`, or - for such a tar on standard input. The image is sent to the platform
/// as it is read.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// Directory or tar file, or -
    path: PathBuf,
    /// Name it gets, REPOSITORY[:TAG] [default: those that it brings along, else the file's]
    #[arg(short, long)]
    name: Option<String>,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn run(args: ImportArgs, cx: &mut Context<'_>) -> Result<()> {
    let source = source(&args, cx)?;
    let shown = args.path.display().to_string();
    let client = cx.client()?;
    let attempt = || format!("import {shown}");
    let name = args.name.clone().or_else(|| match &source {
        Source::Path(path) => naming::default_name(path),
        Source::Stream(_) => None,
    });
    let file_name = match &source {
        Source::Path(path) => naming::file_name(path),
        Source::Stream(_) => None,
    };
    let (body, reading) = tarball::stream(source)?;
    let mut steps = Steps::new(cx.ui());
    let mut lines = match client.import_image(name.as_deref(), file_name.as_deref(), body).await {
        Ok(lines) => lines,
        // Why our own reading failed is more specific than that the request broke.
        Err(err) => {
            return Err(reading.error().unwrap_or_else(|| from_client(&err, &attempt())));
        }
    };
    let image = loop {
        let line = lines.next().await.context(attempt);
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
    let name = name.as_ref().or(image.references.first()).unwrap_or(&image.digest);
    cx.ui().status(&format!("Imported {}, {}", image.digest, human_bytes(image.size)));
    cx.ui().data(name)
}

/// Where the image comes from.
fn source(args: &ImportArgs, cx: &mut Context<'_>) -> Result<Source> {
    if args.path.as_os_str() != "-" {
        return Ok(Source::Path(cx.env.cwd.join(&args.path)));
    }
    if cx.ui().term.stdin {
        let error = CliError::usage("Cannot import from this terminal");
        return Err(error.hint("Pipe a tar in: `docker save IMAGE | updraft image import -`."));
    }
    let input = cx.ui().take_input();
    input.map(Source::Stream).ok_or_else(|| CliError::failed("There is no standard input"))
}
