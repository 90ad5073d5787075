//! `updraft host status`

use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::ui::table::vertical;
use clap::Args;
use wire::platform::HostInfo;

/// Show what the hosts have and what is used of it
///
/// `Promised` is the memory of the machines that run, by their size; `Really
/// used` is what their VMs hold of the host's memory, with pages that they share
/// counted once (PSS). Stopped and suspended machines are in neither.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn run(args: StatusArgs, cx: &mut Context<'_>) -> Result<()> {
    let hosts = cx.client()?.hosts().await.context(|| "show the hosts".into())?;
    if args.json {
        return cx.ui().json(&hosts);
    }
    let blocks: Vec<String> = hosts.iter().map(block).collect();
    cx.ui().data(&blocks.join("\n"))
}

fn block(host: &HostInfo) -> String {
    let factor = host.overcommit.max(1.0);
    let promisable = (host.memory_mib as f64 * factor) as u64;
    let machines = host.machines.iter().filter(|(_, count)| **count > 0);
    let machines = machines.map(|(state, count)| format!("{count} {state}")).collect();
    let fields = [
        ("Region", host.region.clone()),
        ("Accelerator", host.accelerator.clone()),
        ("Hypervisor", host.hypervisor.clone()),
        ("CPUs", host.cpus.to_string()),
        ("Memory", format!("{} MiB for machines", host.memory_mib)),
        ("Promised", part(host.memory_reserved_mib, promisable)),
        ("Really used", part(host.memory_used_mib, host.memory_mib)),
        ("Overcommit", policy(factor)),
        ("Machines", list(machines)),
        ("Templates", list(host.templates.clone())),
    ];
    vertical(&format!("Host {}", host.host), &fields)
}

/// `256 of 4096 MiB (6%)`.
fn part(mib: u64, of: u64) -> String {
    let percent = mib.saturating_mul(100) / of.max(1);
    format!("{mib} of {of} MiB ({percent}%)")
}

fn policy(factor: f64) -> String {
    match factor {
        1.0 => "none: no more memory is promised than there is".to_owned(),
        factor => format!("memory is promised up to {factor} times"),
    }
}

fn list(words: Vec<String>) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}
