//! `updraft version`

use crate::context::Context;
use crate::error::Result;
use clap::Args;
use serde::Serialize;
use std::env::consts::{ARCH, OS};

/// Show the version of this program
#[derive(Clone, Debug, Args)]
pub struct VersionArgs {
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    name: &'static str,
    version: &'static str,
    #[serde(rename = "OS")]
    os: &'static str,
    architecture: &'static str,
}

pub(super) fn run(args: &VersionArgs, cx: &mut Context<'_>) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    if args.json {
        return cx.ui().json(&Version { name: "updraft", version, os: OS, architecture: ARCH });
    }
    cx.ui().data(&format!("updraft v{version} {OS}/{ARCH}"))
}
