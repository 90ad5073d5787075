//! `updraft machine status`

use super::OneArgs;
use super::list::{image, passing};
use crate::context::Context;
use crate::error::{CliError, ErrorContext, Result};
use crate::machines::pick::{GROUP, label};
use crate::parse::moment;
use crate::ui::table::{Fit, table, vertical};
use clap::Args;
use wire::machines::{Machine, MachineEvent};

/// Show a machine and what happened to it
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    which: OneArgs,
    /// Also show its config as JSON, and all stages of starts
    #[arg(short, long)]
    display_config: bool,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn run(args: StatusArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, id) = args.which.resolve(cx).await?;
    let machine = client.machine(&app, &id).await;
    let machine = machine.context(|| format!("show machine {id}"))?;
    if args.json {
        return cx.ui().json(&machine);
    }
    let fit = cx.ui().fit(&["SOURCE"]);
    let mut text = format!("Machine ID: {}\nInstance ID: {}\n", machine.id, machine.instance_id);
    text.push_str(&format!("State: {}\n", machine.state));
    if machine.host_status != "ok" {
        text.push_str(&format!("HostStatus: {}\n", machine.host_status));
    }
    text.push_str(&format!("\n{}", vertical("VM", &fields(&machine))));
    if !machine.checks.is_empty() {
        text.push_str(&format!("\nChecks [{}]\n{}", passing(&machine), checks(&machine, fit)));
    }
    let events: Vec<_> = machine.events.iter().map(|e| event(e, args.display_config)).collect();
    let header = ["STATE", "EVENT", "SOURCE", "TIMESTAMP", "INFO"];
    text.push_str(&format!("\nEvent Logs\n{}", table(&header, &events, fit)));
    if args.display_config {
        let config = serde_json::to_string_pretty(&machine.config);
        let failed = |err| CliError::failed("Cannot print JSON").because_of(&err);
        text.push_str(&format!("\nConfig:\n{}\n", config.map_err(failed)?));
    }
    cx.ui().data(&text)
}

fn fields(machine: &Machine) -> Vec<(&'static str, String)> {
    let config = machine.config.as_ref().or(machine.incomplete_config.as_ref());
    let guest = config.and_then(|config| config.guest.clone()).unwrap_or_default();
    let init = config.and_then(|config| config.init.clone()).unwrap_or_default();
    let number = |n: Option<u32>| n.map(|n| n.to_string()).unwrap_or_default();
    let words = |words: Option<Vec<String>>| words.map(|w| w.join(" ")).unwrap_or_default();
    let mut fields = vec![
        ("ID", machine.id.clone()),
        ("Instance ID", machine.instance_id.clone()),
        ("State", machine.state.clone()),
        ("Image", image(&machine.image_ref)),
        ("Name", machine.name.clone()),
        ("Private IP", machine.private_ip.clone()),
        ("Region", machine.region.clone()),
        ("Process Group", label(machine, GROUP)),
        ("CPU Kind", guest.cpu_kind.unwrap_or_default()),
        ("vCPUs", number(guest.cpus)),
        ("Memory", number(guest.memory_mb)),
        ("Created", machine.created_at.clone()),
        ("Updated", machine.updated_at.clone()),
        ("Entrypoint", words(init.entrypoint)),
        ("Command", words(init.exec.or(init.cmd))),
    ];
    fields.extend(init.on_resume.map(|argv| ("On Resume", argv.join(" "))));
    fields.extend(machine.isolation.clone().map(|kind| ("Isolation", kind)));
    if machine.cordoned {
        fields.push(("Cordoned", "yes".to_owned()));
    }
    fields
}

fn checks(machine: &Machine, fit: Fit<'_>) -> String {
    let rows: Vec<_> = machine
        .checks
        .iter()
        .map(|c| vec![c.name.clone(), c.status.clone(), c.updated_at.clone(), c.output.clone()])
        .collect();
    table(&["NAME", "STATUS", "LAST UPDATED", "OUTPUT"], &rows, fit)
}

fn event(event: &MachineEvent, in_detail: bool) -> Vec<String> {
    let (status, kind, source) = (event.status.clone(), event.kind.clone(), event.source.clone());
    vec![status, kind, source, moment(event.timestamp), info(event, in_detail)]
}

/// `exit_code=0,oom_killed=false,requested_stop=true` and what else is known.
///
/// Of the stages of a start only the time in all, unless all details are wanted.
pub(super) fn info(event: &MachineEvent, in_detail: bool) -> String {
    let Some(details) = &event.request else { return String::new() };
    let mut parts = Vec::new();
    if let Some(exit) = &details.exit_event {
        parts.push(format!("exit_code={}", exit.exit_code));
        parts.push(format!("oom_killed={}", exit.oom_killed));
        parts.push(format!("requested_stop={}", exit.requested_stop));
    }
    let origin = details.origin.as_deref();
    parts.extend(origin.map(|origin| format!("origin={origin}")));
    let resumed = details.resumed.filter(|_| origin != Some("resumed"));
    parts.extend(resumed.map(|resumed| format!("resumed={resumed}")));
    parts.extend(details.restart_count.filter(|&n| n > 0).map(|n| format!("restart_count={n}")));
    if let Some(stages) = &details.stages_ms {
        let total = stages.iter().find(|(stage, _)| *stage == "total");
        match total {
            Some((_, ms)) if !in_detail => parts.push(seconds(*ms)),
            _ if in_detail => {
                parts.extend(stages.iter().map(|(stage, ms)| format!("{stage}={}", millis(*ms))));
            }
            _ => {}
        }
    }
    parts.extend(details.reason.as_ref().map(|reason| format!("reason={reason}")));
    parts.join(",")
}

/// `0.5s`, `0.03s`: two digits that matter.
fn seconds(ms: f64) -> String {
    let secs = ms / 1000.0;
    let digits = if secs < 0.1 { 3 } else { usize::from(secs < 100.0) };
    format!("{secs:.digits$}s")
}

/// Tenths only where they matter.
fn millis(ms: f64) -> String {
    let digits = usize::from(ms < 9.95);
    format!("{ms:.digits$}ms")
}
