//! Collects the metrics of all machines.

use super::families::{Families, Labels, label};
use super::{app, guest, scrape};
use crate::context::HostContext;
use crate::host::Worker;
use crate::machine::view::View;
use futures_util::{StreamExt, stream};
use guest_protocol::GuestStats;
use model::id::AppId;
use model::life::State;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Machines that are asked at a time.
const AT_A_TIME: usize = 32;
/// Time for a guest to answer. One whose init is of an earlier release does not.
const GUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of the metrics of apps in all; those that do not fit are left out.
const MAX_APPS: usize = 64 << 20;

/// What a machine has answered.
struct Answers {
    view: Arc<View>,
    stats: Option<GuestStats>,
    app: Option<String>,
}

impl Worker {
    /// Metrics of this host's machines, of these apps if any are given, in OpenMetrics text, without its end. Guests and
    /// apps are asked now, for at most a few seconds in all for each.
    pub async fn machine_metrics(&self, apps: Option<&BTreeSet<AppId>>) -> String {
        let host = self.context();
        // One reader at a time: what it holds is large.
        let _turn = host.metrics_turn.lock().await;
        let is_wanted = |app: AppId| apps.is_none_or(|apps| apps.contains(&app));
        let is_shown =
            |view: &Arc<View>| view.record.given_up.is_none() && is_wanted(view.record.app);
        let views = self.views().into_iter().filter(is_shown);
        let asked = stream::iter(views).map(|view| ask(host, view)).buffered(AT_A_TIME);
        let mut families = Families::default();
        let mut room = MAX_APPS;
        let mut asked = std::pin::pin!(asked);
        while let Some(answers) = asked.next().await {
            let labels = labels(host, &answers.view);
            add_machine(&mut families, &labels, &answers.view);
            add_cpu_credit(&mut families, &labels, host, &answers.view);
            if let Some(stats) = &answers.stats {
                guest::add(&mut families, &labels, stats);
            }
            let fits = answers.app.filter(|text| text.len() <= room);
            if let Some(text) = fits {
                room -= text.len();
                app::add(&mut families, &labels, &text);
            }
        }
        families.text()
    }
}

async fn ask(host: &HostContext, view: Arc<View>) -> Answers {
    let started = view.record.state == State::Started;
    let guest = async {
        let agent = view.agent.as_ref().filter(|_| started)?;
        tokio::time::timeout(GUEST_TIMEOUT, agent.stats()).await.ok()?.ok()
    };
    let app = async {
        let endpoint = view.record.config.metrics.as_ref().filter(|_| started)?;
        scrape::scrape(host, view.addresses?.ipv4, endpoint).await
    };
    let (stats, app) = tokio::join!(guest, app);
    Answers { view, stats, app }
}

fn labels(host: &HostContext, view: &View) -> Labels {
    vec![
        label("app", &view.record.app_name),
        label("region", view.record.region(&host.config.region)),
        label("host", format!("{:04x}", host.config.host.0)),
        label("instance", view.record.id),
    ]
}

/// Hundredths of a second, as all CPU time in these metrics. Only of machines that are held
/// to their baseline now.
fn add_cpu_credit(families: &mut Families, labels: &Labels, host: &HostContext, view: &View) {
    let Some(known) = host.cpu.of(view.record.id, view.record.boot) else { return };
    for (name, time) in [
        ("fly_instance_cpu_balance", known.credit.balance()),
        ("fly_instance_cpu_throttle", known.throttled),
    ] {
        families.add(name, &[labels], &(time.as_millis() / 10).to_string());
    }
}

/// Samples from the record of a machine, which need no guest.
fn add_machine(families: &mut Families, labels: &Labels, view: &View) {
    let record = &view.record;
    if record.state == State::Destroyed {
        return;
    }
    let up = u8::from(record.state == State::Started);
    families.add("fly_instance_up", &[labels], &up.to_string());
    // Hundredths of a second of CPU time in a second.
    let baseline = f64::from(record.cpu_weight()) / 10.0;
    families.add("fly_instance_cpu_baseline", &[labels], &baseline.to_string());
    let exits = view.events.iter().filter_map(|event| event.request.as_ref()?.exit_event.as_ref());
    let Some(exit) = exits.clone().next() else { return };
    for (name, value) in [
        ("fly_instance_exit_code", exit.exit_code),
        ("fly_instance_exit_oom", i32::from(exit.oom_killed)),
        ("fly_instance_exit_vm_code", exit.signal),
    ] {
        families.add(name, &[labels], &value.to_string());
    }
}
