//! Metrics of machines and of their apps.

use crate::apps::{App, Apps};
use crate::daemon::Settings;
use crate::lab::{Lab, user};
use host_api::Machines;
use std::time::Duration;
use wire::machines::MetricsEndpoint;
use worker::ports::CpuTimes;

/// Creates a machine whose app offers metrics on port 9100.
fn create(lab: &mut Lab, name: &str) {
    let mut create = lab.creation(name, &["serve"]);
    let endpoint = MetricsEndpoint { port: Some(9100), ..MetricsEndpoint::default() };
    create.config.metrics = Some(endpoint);
    let worker = lab.worker();
    lab.run(async { worker.create(user(), create).await }).unwrap();
    lab.script(&format!("wait {name} started"));
}

fn metrics(lab: &Lab) -> String {
    let worker = lab.worker();
    lab.run(async { worker.machine_metrics(None).await })
}

#[test]
fn machines_and_their_apps_have_metrics_with_the_platforms_labels() {
    let apps = Apps::default();
    let mut lab = Lab::new(Settings { apps: Some(apps.clone()), ..Settings::default() });
    apps.set(9100, App::http("200 OK", "jobs{app=\"evil\",queue=\"a\"} 3\nfly_instance_up 9\n"));
    create(&mut lab, "m1");
    create(&mut lab, "m2");
    lab.script("stop m2; wait m2 stopped");
    let of = |name: &str| {
        let id = lab.id(name);
        format!("app=\"web\",region=\"here\",host=\"0001\",instance=\"{id}\"")
    };
    let (one, two) = (of("m1"), of("m2"));
    let text = metrics(&lab);
    for line in [
        format!("fly_instance_up{{{one}}} 1"),
        format!("fly_instance_up{{{two}}} 0"),
        format!("fly_instance_exit_code{{{two}}} 0"),
        format!("fly_instance_cpu_baseline{{{one}}} 6.3"),
        format!("fly_instance_load_average{{{one},minutes=\"5\"}} 0.25"),
        format!("jobs{{{one},queue=\"a\"}} 3"),
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in\n{text}");
    }
    let families = text.lines().filter(|line| *line == "# TYPE fly_instance_up unknown").count();
    assert_eq!(families, 1, "{text}");
    assert!(!text.contains("fly_instance_up 9") && !text.contains("evil"), "{text}");
    assert!(apps.newest_request().starts_with("GET /metrics HTTP/1.1\r\n"));
    let worker = lab.worker();
    let none = std::collections::BTreeSet::new();
    let of_none = lab.run(async { worker.machine_metrics(Some(&none)).await });
    assert_eq!(of_none, "", "a reader of other apps sees none of it");
    assert_eq!(lab.take(), "");
}

#[test]
fn a_machine_with_shared_cpus_is_held_to_its_baseline_and_boots_without() {
    let clock = rt::Clock::manual(1_700_000_000_000_000_000);
    let settings = Settings { paused: true, clock, cpu_baseline: true, ..Settings::default() };
    let mut lab = Lab::new(settings);
    lab.script("create m1 serve; wait m1 started");
    let id = lab.id("m1");
    let hypervisor = lab.world.hypervisor.clone();
    let used = |seconds| CpuTimes {
        used: Duration::from_secs(seconds),
        throttled: Duration::from_millis(70),
    };
    // It uses a whole core: the first ten seconds do not count, five more are its balance.
    for second in 1..=20 {
        hypervisor.set_cpu_times(id, used(second));
        let measured = hypervisor.cpu_reads();
        lab.run(async {
            tokio::time::advance(Duration::from_secs(1)).await;
            while hypervisor.cpu_reads() == measured {
                tokio::task::yield_now().await;
            }
        });
        if second <= 14 {
            assert_eq!(hypervisor.cpu_quota(id), None, "after {second} s");
        }
    }
    lab.run(async {
        while hypervisor.cpu_quota(id) != Some(Duration::from_millis(5)) {
            tokio::task::yield_now().await;
        }
    });
    let text = metrics(&lab);
    let labels = format!("app=\"web\",region=\"here\",host=\"0001\",instance=\"{id}\"");
    for line in ["cpu_baseline{LABELS} 6.3", "cpu_balance{LABELS} 0", "cpu_throttle{LABELS} 7"] {
        let line = format!("fly_instance_{}\n", line.replace("LABELS", &labels));
        assert!(text.contains(&line), "{line} in\n{text}");
    }
}

#[test]
fn a_guest_or_an_app_that_does_not_answer_costs_a_bounded_time() {
    let apps = Apps::default();
    let clock = rt::Clock::manual(1_700_000_000_000_000_000);
    let settings =
        Settings { paused: true, clock, apps: Some(apps.clone()), ..Settings::default() };
    let mut lab = Lab::new(settings);
    apps.set(9100, App::Hangs);
    create(&mut lab, "m1");
    lab.script("guest m1 hang");
    let worker = lab.worker();
    let text = lab.run(async {
        let mut asked = std::pin::pin!(worker.machine_metrics(None));
        let begun = tokio::time::Instant::now();
        loop {
            if let std::task::Poll::Ready(text) = futures_util::poll!(asked.as_mut()) {
                break text;
            }
            assert!(begun.elapsed().as_secs() < 10, "it is bounded");
            tokio::time::advance(Duration::from_millis(250)).await;
        }
    });
    assert!(text.contains("fly_instance_up{") && !text.contains("load_average"), "{text}");
    // An answer that never ends is dropped as a whole.
    apps.set(9100, App::Floods);
    drop(worker);
    let worker = lab.worker();
    let text = lab.run(async {
        let mut asked = std::pin::pin!(worker.machine_metrics(None));
        loop {
            if let std::task::Poll::Ready(text) = futures_util::poll!(asked.as_mut()) {
                break text;
            }
            tokio::time::advance(Duration::from_millis(10)).await;
        }
    });
    assert!(!text.contains("xxxx"));
}
