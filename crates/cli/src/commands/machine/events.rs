//! `updraft machine events`

use super::OneArgs;
use super::status::info;
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::parse::moment;
use crate::reconnect::reconnect;
use crate::ui::table::table;
use clap::Args;
use client::{Client, News, Watch};
use wire::machines::MachineEvent;

/// List what happened to a machine, newest first, or follow it
#[derive(Clone, Debug, Args)]
pub struct EventsArgs {
    #[command(flatten)]
    which: OneArgs,
    /// How many, at most 200
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    /// Only events before the one of this id
    #[arg(long, value_name = "EVENT")]
    before: Option<String>,
    /// Show events as they happen, until interrupted
    #[arg(short, long, conflicts_with_all = ["limit", "before"])]
    follow: bool,
    /// Also all stages of starts
    #[arg(short, long)]
    details: bool,
    /// Print JSON; with --follow one object per line
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn run(mut args: EventsArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, id) = args.which.take().resolve(cx).await?;
    if args.follow {
        return follow(&args, cx, &client, &app, &id).await;
    }
    let events = client.events(&app, &id, args.limit, args.before.as_deref()).await;
    let events = events.context(|| format!("list the events of machine {id}"))?;
    if args.json {
        return cx.ui().json(&events);
    }
    let rows: Vec<_> = events.iter().map(|event| row(event, args.details)).collect();
    let fit = cx.ui().fit(&["SOURCE", "ID"]);
    cx.ui().data(&table(&["ID", "STATE", "EVENT", "SOURCE", "TIMESTAMP", "INFO"], &rows, fit))
}

fn row(event: &MachineEvent, in_detail: bool) -> Vec<String> {
    let MachineEvent { id, kind, status, source, timestamp, .. } = event;
    let info = info(event, in_detail);
    vec![id.clone(), status.clone(), kind.clone(), source.clone(), moment(*timestamp), info]
}

/// Shows events as they happen; after a lost connection it continues where it was.
async fn follow(
    args: &EventsArgs,
    cx: &mut Context<'_>,
    client: &Client,
    app: &str,
    id: &str,
) -> Result<()> {
    let attempt = || format!("follow machine {id}");
    let mut watch = client.watch_machine(app, id, None).await.context(attempt)?;
    loop {
        show(args, cx, &mut watch).await?;
        let connect =
            async || client.watch_machine(app, id, watch.last_id()).await.context(attempt);
        watch = reconnect(cx, connect).await?;
    }
}

/// Shows events until the connection ends.
async fn show(args: &EventsArgs, cx: &mut Context<'_>, watch: &mut Watch) -> Result<()> {
    while let Ok(Some(news)) = watch.next().await {
        match news {
            News::Event(event) if args.json => cx.ui().json_line(&event)?,
            News::Event(event) => {
                let cells = row(&event.event, args.details);
                cx.ui().data(cells[1..].join(" ").trim_end())?;
            }
            News::Gap(why) => cx.ui().status(&format!("Warning: {why}")),
        }
    }
    Ok(())
}
