//! `updraft platform vm-sizes`

use crate::context::Context;
use crate::error::Result;
use crate::parse::presets;
use crate::ui::table::table;
use clap::Args;
use serde::Serialize;
use wire::machines::Guest;

/// List the preset sizes of machines, for --vm-size
///
/// The memory is the least that a size has; --vm-memory gives it more.
#[derive(Clone, Debug, Args)]
pub struct VmSizesArgs {
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

/// A size, by the field names of a machine's `guest`.
#[derive(Debug, Serialize)]
struct Size {
    name: String,
    #[serde(flatten)]
    guest: Guest,
}

pub(super) fn run(args: &VmSizesArgs, cx: &mut Context<'_>) -> Result<()> {
    let sizes: Vec<Size> = presets().map(|(name, guest)| Size { name, guest }).collect();
    if args.json {
        return cx.ui().json(&sizes);
    }
    let row = |size: Size| {
        let number = |n: Option<u32>| n.unwrap_or(0);
        let memory = number(size.guest.memory_mb);
        let memory = match memory.is_multiple_of(1024) {
            true => format!("{} GB", memory / 1024),
            false => format!("{memory} MB"),
        };
        vec![size.name, number(size.guest.cpus).to_string(), memory]
    };
    let rows: Vec<_> = sizes.into_iter().map(row).collect();
    let fit = cx.ui().fit(&[]);
    cx.ui().data(&table(&["NAME", "CPU CORES", "MEMORY"], &rows, fit))
}
