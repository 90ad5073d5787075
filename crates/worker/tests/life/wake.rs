//! Many machines at once, templates, and what guests ask of the API.

use crate::daemon::Settings;
use crate::lab::{Lab, edge, user};
use host_api::{GuestListener, Load, MachineFilter, Machines, Status, WaitFor};
use model::id::MachineId;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use testkit::Fault;
use wire::machines::Machine;
use worker::Worker;
use worker::ports::Shape;

const MANY: usize = 30;

async fn all(worker: &Worker, state: &str) {
    let wanted =
        || WaitFor { states: vec![state.into()], timeout_ms: 3_600_000, ..WaitFor::default() };
    for machine in worker.machines(user(), MachineFilter::default()).await.unwrap() {
        worker.wait(user(), machine.id.parse().unwrap(), wanted()).await.unwrap();
    }
}

#[test]
fn thirty_machines_sleep_and_wake_at_once() {
    let mut lab = Lab::new(Settings { memory_mib: 65536, ..Settings::default() });
    (0..MANY).for_each(|n| lab.script(&format!("create m{n} serve 80")));
    let worker = lab.worker();
    lab.run(async {
        all(&worker, "started").await;
        let machines = worker.machines(user(), MachineFilter::default()).await.unwrap();
        let ids: Vec<MachineId> =
            machines.iter().map(|machine| machine.id.parse().unwrap()).collect();
        let suspend = |id: &MachineId| worker.suspend_idle(edge(), *id, "no load".into());
        let sleep = ids.iter().map(suspend);
        futures_util::future::try_join_all(sleep).await.unwrap();
        // Half of them are woken while they wait for their turn.
        let early = ids.iter().take(MANY / 2).map(|id| worker.wake(edge(), *id));
        futures_util::future::try_join_all(early).await.unwrap();
        let sleep = ids.iter().map(suspend);
        futures_util::future::try_join_all(sleep).await.unwrap();
        all(&worker, "suspended").await;
        assert_eq!(worker.info_with_usage(user()).await.unwrap().memory_used_mib, 0);
        let wakes = ids.iter().chain(&ids).map(|id| worker.wake(edge(), *id));
        futures_util::future::try_join_all(wakes).await.unwrap();
    });
    let ledger = lab.world.ledger();
    assert_eq!((ledger.running.len(), ledger.slots.len()), (MANY, MANY));
    let resumed = |machine: &Machine| {
        let start = machine.events.iter().find(|event| event.kind == "start").unwrap();
        start.request.as_ref().is_some_and(|request| request.resumed == Some(true))
    };
    drop(worker);
    assert!(lab.machines().iter().all(resumed));
    assert_eq!(lab.take(), "");
}

/// How the newest start of a machine came about.
fn origin(machine: &Machine) -> Option<String> {
    let start = machine.events.iter().find(|event| event.kind == "start")?;
    start.request.as_ref()?.origin.clone()
}

#[test]
fn templates_are_made_ahead_and_where_one_was_missed() {
    let shape = |memory_mib| Shape { vcpus: 1, memory_mib };
    let settings = Settings { templates: vec![shape(256), shape(512)], ..Settings::default() };
    let mut lab = Lab::new(settings);
    let hypervisor = lab.world.hypervisor.clone();
    hypervisor.fail_templates([Fault::Transient]);
    let made = |lab: &Lab, shapes: &[Shape]| lab.run(hypervisor.wait_for_templates(shapes));
    made(&lab, &[shape(256), shape(512)]);
    lab.script("create m1 serve --memory=300; wait m1 started");
    let id = lab.id("m1");
    assert_eq!(origin(&lab.machine(id)).unwrap(), "cold");
    made(&lab, &[shape(256), shape(300), shape(512)]);
    lab.script("restart m1; wait m1 started");
    let machine = lab.machine(id);
    assert_eq!(origin(&machine).unwrap(), "template");
    let stages = lab.subscribe().snapshot.routes[0].stages_ms.clone();
    let names: Vec<&str> = stages.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["image", "disk", "network", "spawn", "restore"]);
    // Where one try from it has failed, the next one boots.
    lab.script("fail-boots transient; restart m1; wait m1 starting; wait m1 started");
    assert_eq!(origin(&lab.machine(id)).unwrap(), "cold");
    // A machine with kernel arguments of its own cannot use one.
    lab.script("create m2 serve --memory=400 --args=quiet; wait m2 started");
    let builds = |call: &String| call.starts_with("template");
    let calls: Vec<String> = hypervisor.calls().into_iter().filter(builds).collect();
    assert_eq!(calls.len(), 4, "{calls:?}");
    assert_eq!(lab.take(), "");
}

#[test]
fn name_servers_are_asked_for_at_each_start_and_opened_before_it() {
    let of_host = Arc::new(Mutex::new("192.0.2.1"));
    let found = of_host.clone();
    let find = move || vec![found.lock().unwrap().to_string()];
    let name_servers = worker::NameServers::found_by(find);
    let mut lab = Lab::new(Settings { name_servers, ..Settings::default() });
    let open = |lab: &Lab| {
        let servers = lab.world.network.name_servers();
        servers.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    lab.script("create m1 serve; wait m1 started");
    assert_eq!(open(&lab), ["192.0.2.1"]);
    *of_host.lock().unwrap() = "192.0.2.2";
    lab.script("restart m1; wait m1 started");
    assert_eq!(open(&lab), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(lab.take(), "");
}

/// Answers each connection with what it sends, in capitals.
#[derive(Default)]
struct Shouting {
    served: AtomicUsize,
    tasks: rt::Tasks,
}

impl worker::ports::GuestApi for Shouting {
    fn serve(
        &self,
        machine: MachineId,
        app: &str,
        _listener: GuestListener,
        mut io: Box<dyn worker::ports::AgentIo>,
    ) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        self.served.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{machine} {app} ");
        self.tasks.spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok(read @ 1..) = io.read(&mut buffer).await {
                let text = String::from_utf8_lossy(&buffer[..read]).to_uppercase();
                if io.write_all(format!("{prefix}{text}").as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

#[test]
fn guests_reach_the_api_of_their_host() {
    let mut lab = Lab::new(Settings::default());
    lab.script("create m1 serve; wait m1 started; guest m1 api 1 hello");
    // Without a subscriber to serve it, a connection is ended.
    lab.wait_for_log("m1", "api 1 ended");
    lab.kill();
    let shouting = Arc::new(Shouting::default());
    lab.world.set_guest_api(shouting.clone());
    lab.restart();
    lab.script("guest m1 api 2 hello");
    lab.wait_for_log("m1", "api 2 answers 00000000000001 web HELLO");
    lab.script("guest m1 api-end 2");
    lab.wait_for_log("m1", "api 2 ended");
    // Open connections are cut before the guest is paused, and only until it is resumed.
    lab.script("guest m1 api 3 hello");
    lab.wait_for_log("m1", "api 3 answers");
    lab.script("suspend m1; wait m1 suspended; start m1; wait m1 started; exec m1 false");
    assert_eq!(shouting.served.load(Ordering::Relaxed), 2);
    // Connections are bounded in number and in bytes.
    (10..10 + 2 * guest_protocol::API_CONNECTIONS).for_each(|n| {
        lab.script(&format!("guest m1 api {n} hello"));
    });
    lab.wait_for_log("m1", &format!("api {} ended", 9 + 2 * guest_protocol::API_CONNECTIONS));
    assert_eq!(shouting.served.load(Ordering::Relaxed), 2 + guest_protocol::API_CONNECTIONS);
}

#[test]
fn a_busy_machine_is_not_stopped_as_idle_until_its_lease_ends() {
    let clock = rt::Clock::manual(1_700_000_000_000_000_000);
    let mut lab = Lab::new(Settings { paused: true, clock, ..Settings::default() });
    lab.script("create m serve 80; wait m started");
    let (worker, id) = (lab.worker(), lab.machines()[0].id.parse().unwrap());
    let until = lab.run(async { worker.set_busy(user(), id, 60_000).await.unwrap().unwrap() });
    // It is durable: the next daemon respects it too.
    drop(worker);
    lab.script("kill; daemon; wait m started");
    let worker = lab.worker();
    let shown = lab.machine(id).busy_until;
    assert_eq!(shown, Some(rt::clock::rfc3339(until)));
    let idle = || async { worker.stop_idle(edge(), id, "no load".into()).await };
    let refused = lab.run(idle()).unwrap_err().to_string();
    assert!(refused.starts_with("machine is not idle: it is busy until "), "{refused}");
    let suspended = lab.run(async { worker.suspend_idle(edge(), id, "no load".into()).await });
    assert!(suspended.is_err());
    lab.script("tick 61s");
    assert_eq!(lab.run(idle()), Ok(()));
    lab.script("wait m stopped");
    let refused = lab.run(async { worker.set_busy(user(), id, 1000).await }).unwrap_err();
    assert!(matches!(refused, host_api::HostError::Conflict(_)), "{refused}");
    drop(worker);
    lab.take();
}

/// A machine whose containers have two images.
#[test]
fn the_images_of_containers_are_drives_and_are_kept() {
    use host_api::{Images, UpdateMachine};
    use wire::machines::{Container, MachineConfig};
    let mut lab = Lab::new(Settings::default());
    lab.script("create m serve 80");
    let (worker, id) = (lab.worker(), lab.machines()[0].id.parse().unwrap());
    lab.run(async { all(&worker, "started").await });
    let container = |name: &str, image: Option<&str>| Container {
        name: name.into(),
        image: image.map(str::to_owned),
        exec: Some(vec!["serve".into(), "80".into()]),
        ..Container::default()
    };
    let reference = "app:2";
    lab.world.images.publish(reference, worker::ports::ImageConfig::default());
    let containers = vec![container("a", None), container("b", Some(reference))];
    let config = MachineConfig {
        image: "app".into(),
        containers: Some(containers),
        ..MachineConfig::default()
    };
    let now = lab.run(async {
        let resolved = worker.resolve_image(user(), reference.into()).await.unwrap();
        let update = UpdateMachine {
            id,
            config,
            image: worker.resolve_image(user(), "app".into()).await.unwrap(),
            container_images: [(reference.to_owned(), resolved)].into(),
            skip_secrets: false,
            labels: None,
            skip_launch: false,
            current_version: None,
            cordoned: None,
            lease: None,
        };
        worker.update(user(), update).await.unwrap();
        all(&worker, "started").await;
        // The guest answers behind its states, which the task takes within milliseconds.
        worker.processes(user(), id).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        worker.machine(user(), id).await.unwrap()
    });
    let shown = |machine: &Machine| {
        let words = machine.containers.iter().map(|one| format!("{}={}", one.name, one.state));
        words.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown(&now), "a=started b=started");
    let pulled = lab.world.images.pulled();
    lab.run(async {
        worker.stop(user(), id, host_api::Stop::default()).await.unwrap();
        all(&worker, "stopped").await;
        worker.collect_images().await.unwrap();
    });
    assert_eq!(shown(&lab.machine(id)), "a=stopped b=stopped");
    lab.run(async {
        worker.start(user(), id).await.unwrap();
        all(&worker, "started").await;
    });
    assert_eq!(lab.world.images.pulled(), pulled, "both images were kept");
    drop(worker);
    lab.take();
}
