//! The contract of `host_api::Host`, as a test that the worker, the fake and
//! the remote client all pass.

use super::calls::{context, create, gone, started, state};
use super::{leases, secrets, volumes};
use futures_util::StreamExt;
use host_api::{
    CallContext, ChangeMetadata, CreateMachine, Deadline, EventFilter, ExecError, ExecInput,
    ExecOutput, ExecStart, FeedItem, Host, HostError, ImportName, LogLine, MachineFilter,
    RouteChange, RouteState, RouteSubscription, Stop, Upstream, WaitFor, WakeRefused,
};
use model::id::{AppId, BootId, Epoch, MachineId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use wire::logs::LogQuery;
use wire::machines::ImageProgress;

/// Every step of the contract has to be done by then.
const LIMIT: Duration = Duration::from_secs(60);

/// A host under test.
pub struct Subject {
    /// The host: no machine is there yet, the image `app` can be resolved, and
    /// machines of it run until they are stopped.
    pub host: Arc<dyn Host>,
    /// A tar that the host can import under a name.
    pub tar: Vec<u8>,
}

/// Runs the whole contract against one host.
///
/// # Panics
/// The host does not keep it.
pub async fn host_api_contract(subject: Subject) {
    let checks = async {
        let host = &*subject.host;
        unknown_machines_are_not_found(host).await;
        a_create_may_be_repeated(host).await;
        a_machine_keeps_the_region_code_that_it_was_asked_for(host).await;
        an_abandoned_create_is_whole_or_absent(host).await;
        a_machine_lives(host).await;
        an_older_epoch_is_refused(host).await;
        a_newer_epoch_takes_the_machine_away(host).await;
        waits_end_at_their_time(host).await;
        routes_follow_the_machines(host).await;
        a_suspended_machine_is_woken(host).await;
        commands_run_in_the_guest(host).await;
        lines_of_the_platform_are_in_the_log(host).await;
        events_are_followed_without_gaps(host).await;
        images_come_and_go(host, subject.tar.clone()).await;
        boots_that_are_over_are_not_connected_to(host).await;
        memory_of_a_machine_that_runs(host).await;
        leases::a_lease_guards_the_machine(host).await;
        leases::a_lease_comes_with_a_create(host).await;
        secrets::a_boot_is_given_the_newest_secrets(host).await;
        volumes::a_volume_lives(host).await;
        volumes::a_volume_has_one_machine(host).await;
    };
    tokio::time::timeout(LIMIT, checks).await.expect("the contract ends in time");
}

fn is_not_found<T: std::fmt::Debug>(answer: Result<T, HostError>) {
    assert!(matches!(answer, Err(HostError::NotFound(_))), "{answer:?}");
}

async fn unknown_machines_are_not_found(host: &dyn Host) {
    let id = MachineId::from_random(0xdead);
    is_not_found(host.machine(context(), id).await);
    is_not_found(host.start(context(), id).await);
    is_not_found(host.stop(context(), id, Stop::default()).await);
    is_not_found(host.suspend(context(), id).await);
    is_not_found(host.restart(context(), id, Stop::default(), true).await);
    is_not_found(host.signal(context(), id, 15).await);
    is_not_found(host.destroy(context(), id, true).await);
    is_not_found(host.cordon(context(), id, true).await);
    is_not_found(host.events(context(), id, 10, None).await);
    is_not_found(host.versions(context(), id).await);
    is_not_found(host.processes(context(), id).await);
    is_not_found(host.exec(context(), id, ExecStart::default()).await.map(drop));
    is_not_found(host.wait(context(), id, WaitFor::default()).await);
    is_not_found(host.lease(context(), id).await);
    is_not_found(host.release_lease(context(), id).await);
    assert_eq!(host.wake(context(), id).await, Err(WakeRefused::Gone));
    is_not_found(host.resolve_image(context(), "no-such-image:1".into()).await);
}

async fn labels_are_set_and_bounded(host: &dyn Host, id: MachineId) {
    let merge = async |labels: Vec<(String, Option<String>)>| {
        let change = ChangeMetadata::Merge(labels.into_iter().collect());
        host.change_metadata(context(), id, change, None).await
    };
    let empty = || ("empty".to_owned(), Some(String::new()));
    merge(vec![empty()]).await.expect("an empty value is a value");
    let labels = async || {
        let machine = host.machine(context(), id).await.expect("it is there");
        machine.config.and_then(|config| config.metadata.clone()).unwrap_or_default()
    };
    assert_eq!(labels().await.get("empty").map(String::as_str), Some(""));
    let many = (0..64).map(|n| (format!("n{n}"), Some("x".to_owned())));
    let large = ("large".to_owned(), Some("x".repeat(64 * 1024)));
    for too_much in [many.collect(), vec![large]] {
        let refused = merge(too_much).await;
        assert!(matches!(refused, Err(HostError::Invalid(_))), "{refused:?}");
    }
    assert_eq!(labels().await.len(), 2, "nothing of it was done");
    merge(vec![("empty".to_owned(), None)]).await.expect("deleted");
    assert!(!labels().await.contains_key("empty"));
}

async fn a_create_may_be_repeated(host: &dyn Host) {
    let create = create(host, 1).await;
    let id = create.id;
    let first = host.create(context(), create.clone()).await.expect("created");
    let before = host.info(context()).await.expect("info").memory_reserved_mib;
    let again = host.create(context(), create.clone()).await.expect("the same machine");
    assert_eq!((first.id, first.instance_id), (again.id, again.instance_id));
    let other = CreateMachine { name: "other".parse().expect("a name"), ..create };
    let refused = host.create(context(), other).await;
    assert!(matches!(refused, Err(HostError::Conflict(_))), "{refused:?}");
    let after = host.info(context()).await.expect("info").memory_reserved_mib;
    assert_eq!(before, after, "a repeated or refused create changes no reservation");
    state(host, id, &["started"]).await;
    let of_app = MachineFilter { app: Some(AppId(7)), ..MachineFilter::default() };
    let machines = host.machines(context(), of_app.clone()).await.expect("list");
    assert_eq!(machines.iter().map(|m| m.id.clone()).collect::<Vec<_>>(), [id.to_string()]);
    let of_other = MachineFilter { app: Some(AppId(8)), ..of_app };
    assert_eq!(host.machines(context(), of_other).await.expect("list"), []);
    gone(host, id).await;
}

/// A machine has the code of its host's region that it was asked for, wherever it is shown.
async fn a_machine_keeps_the_region_code_that_it_was_asked_for(host: &dyn Host) {
    let region = Some("there".to_owned());
    let create = CreateMachine { region: region.clone(), ..create(host, 21).await };
    let id = create.id;
    let made = host.create(context(), create).await.expect("created");
    assert_eq!(made.region, "there");
    state(host, id, &["started"]).await;
    let routes = host.routes(context()).await.expect("its routes").snapshot;
    let route = routes.routes.iter().find(|route| route.machine == id).expect("its route");
    assert_eq!(route.region, "there");
    let listed = async |region| {
        let filter = MachineFilter { region, ..MachineFilter::default() };
        host.machines(context(), filter).await.expect("list").len()
    };
    assert_eq!(listed(region).await, 1);
    let own = host.info(context()).await.expect("info").region;
    assert_eq!(listed(Some(own)).await, 0);
    gone(host, id).await;
}

/// The caller goes away at once; what it asked for has happened or it has not.
async fn an_abandoned_create_is_whole_or_absent(host: &dyn Host) {
    let create = create(host, 2).await;
    let id = create.id;
    {
        let call = host.create(context(), create.clone());
        let mut call = std::pin::pin!(call);
        // One poll, then it is dropped.
        let _ = futures_util::poll!(call.as_mut());
    }
    let made = host.create(context(), create).await.expect("as if nothing had been");
    assert_eq!(made.id, id.to_string());
    state(host, id, &["started"]).await;
    gone(host, id).await;
    let reserved = host.info(context()).await.expect("info").memory_reserved_mib;
    assert_eq!(reserved, 0, "nothing stays reserved");
}

async fn a_machine_lives(host: &dyn Host) {
    let id = started(host, 3).await;
    let before = host.start(context(), id).await.expect("it runs already");
    assert_eq!(before.previous_state, "started");
    let label = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
    let labels = BTreeMap::from([label("role", "primary"), label("empty", "")]);
    let change = ChangeMetadata::Merge(labels);
    host.change_metadata(context(), id, change.clone(), None).await.expect("labelled");
    let stale = "01BX5ZZKBKACTAV9WEVGEMMVRZ".parse().ok();
    let refused = host.change_metadata(context(), id, change, stale).await;
    assert!(matches!(refused, Err(HostError::VersionMismatch(_))), "{refused:?}");
    host.cordon(context(), id, true).await.expect("cordoned");
    let machine = host.machine(context(), id).await.expect("it is there");
    assert!(machine.cordoned);
    let metadata = machine.config.and_then(|config| config.metadata.clone()).unwrap_or_default();
    assert_eq!(metadata.get("role").map(String::as_str), Some("primary"));
    assert_eq!(metadata.get("empty").map(String::as_str), Some(""), "an empty value is a value");
    labels_are_set_and_bounded(host, id).await;
    let unforced = host.destroy(context(), id, false).await;
    assert!(matches!(unforced, Err(HostError::Conflict(_))), "{unforced:?}");
    for _ in 0..2 {
        host.stop(context(), id, Stop::default()).await.expect("a stop may be repeated");
    }
    state(host, id, &["stopped"]).await;
    host.start(context(), id).await.expect("started again");
    state(host, id, &["started"]).await;
    let events = host.events(context(), id, 3, None).await.expect("events");
    assert_eq!(events.len(), 3);
    let newest = events[0].id.parse().ok();
    let older = host.events(context(), id, 2, newest).await.expect("events");
    assert_eq!(older, events[1..], "those before the newest");
    assert_eq!(host.versions(context(), id).await.expect("versions").len(), 1);
    gone(host, id).await;
    let listed = host.machines(context(), MachineFilter::default()).await.expect("list");
    assert_eq!(listed, [], "destroyed machines are in no list");
    let all = MachineFilter { include_deleted: true, ..MachineFilter::default() };
    let listed = host.machines(context(), all).await.expect("list");
    assert!(listed.iter().any(|machine| machine.id == id.to_string()));
}

async fn an_older_epoch_is_refused(host: &dyn Host) {
    let create = CreateMachine { epoch: Epoch(5), ..create(host, 4).await };
    let id = create.id;
    host.create(context(), create.clone()).await.expect("created");
    state(host, id, &["started"]).await;
    let stale = context().at(Epoch(4));
    let is_stale = |answer: Result<(), HostError>| {
        let stale = HostError::StaleEpoch { sent: Epoch(4), known: Epoch(5) };
        assert_eq!(answer, Err(stale));
    };
    is_stale(host.stop(stale.clone(), id, Stop::default()).await);
    is_stale(host.destroy(stale.clone(), id, true).await);
    is_stale(host.start(stale.clone(), id).await.map(drop));
    is_stale(host.cordon(stale.clone(), id, true).await);
    let older = CreateMachine { epoch: Epoch(4), ..create };
    is_stale(host.create(context(), older).await.map(drop));
    let machine = host.machine(context(), id).await.expect("it is there");
    assert_eq!((machine.state.as_str(), machine.cordoned), ("started", false));
    host.stop(context().at(Epoch(5)), id, Stop::default()).await.expect("the owner may");
    gone(host, id).await;
}

async fn a_newer_epoch_takes_the_machine_away(host: &dyn Host) {
    let id = started(host, 5).await;
    let newer = host.stop(context().at(Epoch(2)), id, Stop::default()).await;
    assert!(matches!(newer, Err(HostError::NotMine { epoch: Some(Epoch(2)), .. })), "{newer:?}");
    let left = async {
        loop {
            let listed = host.machines(context(), MachineFilter::default()).await.expect("list");
            if listed.iter().all(|machine| machine.id != id.to_string()) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    left.await;
    let after = host.start(context().at(Epoch(1)), id).await;
    assert!(after.is_err_and(|err| err.is_about_ownership()), "the former owner refuses the call");
}

async fn waits_end_at_their_time(host: &dyn Host) {
    let id = started(host, 6).await;
    let never =
        |timeout_ms| WaitFor { states: vec!["stopped".into()], timeout_ms, ..WaitFor::default() };
    let own = host.wait(context(), id, never(50)).await;
    assert!(matches!(own, Err(HostError::DeadlineExceeded(_))), "{own:?}");
    let short = CallContext { deadline: Deadline::within(Duration::from_millis(50)), ..context() };
    let calls = host.wait(short, id, never(600_000)).await;
    assert!(matches!(calls, Err(HostError::DeadlineExceeded(_))), "{calls:?}");
    gone(host, id).await;
}

/// The change that `wanted` is true of, with its generation.
async fn change(
    routes: &mut RouteSubscription,
    wanted: impl Fn(&RouteChange) -> bool,
) -> (u64, RouteChange) {
    loop {
        let (generation, change) = routes.changes.recv().await.expect("the stream is open");
        if wanted(&change) {
            return (generation, change);
        }
    }
}

async fn routes_follow_the_machines(host: &dyn Host) {
    let first = started(host, 7).await;
    let mut routes = host.routes(context()).await.expect("a subscription");
    let there = routes.snapshot.routes.iter().find(|route| route.machine == first);
    let there = there.expect("a machine that runs is in the snapshot");
    assert_eq!((there.state, there.app, there.epoch), (RouteState::Started, AppId(7), Epoch(1)));
    assert!(there.boot.is_some());
    assert!(routes.snapshot.position.epoch > 0);
    let mut expected = routes.snapshot.position.generation;
    let second = started(host, 8).await;
    loop {
        let (generation, change) = routes.changes.recv().await.expect("the stream is open");
        expected += 1;
        assert_eq!(generation, expected, "generations have no gaps");
        let is_up = matches!(&change, RouteChange::Upsert(route)
            if route.machine == second && route.state == RouteState::Started);
        if is_up {
            routes.acknowledge.send(generation).await.expect("acknowledgements are taken");
            break;
        }
    }
    gone(host, second).await;
    let removed = |change: &RouteChange| *change == RouteChange::Remove { machine: second };
    change(&mut routes, removed).await;
    drop(routes);
    gone(host, first).await;
}

async fn a_suspended_machine_is_woken(host: &dyn Host) {
    let id = started(host, 9).await;
    let edge = || CallContext::edge(Duration::from_secs(20));
    assert_eq!(host.wake(edge(), id).await, Ok(()), "it is awake");
    let busy = host.set_busy(context(), id, 60_000).await;
    assert!(matches!(busy, Ok(Some(_))), "{busy:?}");
    assert_eq!(host.set_busy(context(), id, 0).await, Ok(None));
    assert_eq!(host.stop_idle(edge(), id, "idle".into()).await, Ok(()));
    host.drained(id);
    state(host, id, &["stopped"]).await;
    assert_eq!(host.wake(edge(), id).await, Ok(()));
    assert_eq!(host.machine(context(), id).await.expect("it is there").state, "started");
    gone(host, id).await;
    assert_eq!(host.wake(edge(), id).await, Err(WakeRefused::Gone));
}

async fn commands_run_in_the_guest(host: &dyn Host) {
    let id = started(host, 10).await;
    let argv = |words: &[&str]| ExecStart {
        argv: words.iter().map(|word| (*word).to_owned()).collect(),
        ..ExecStart::default()
    };
    let mut echo = host.exec(context(), id, argv(&["echo", "hello"])).await.expect("it runs");
    let (mut text, mut end) = (Vec::new(), None);
    while let Some(output) = echo.output.recv().await {
        match output {
            ExecOutput::Stdout(bytes) => text.extend(bytes),
            other => end = Some(other),
        }
    }
    assert_eq!(String::from_utf8_lossy(&text), "hello\n");
    assert_eq!(end, Some(ExecOutput::Exited { code: 0, signal: 0 }));
    let mut cat = host.exec(context(), id, argv(&["cat"])).await.expect("it runs");
    cat.input.send(ExecInput::Data(b"ping".to_vec())).await.expect("it reads");
    assert_eq!(cat.output.recv().await, Some(ExecOutput::Stdout(b"ping".to_vec())));
    cat.input.send(ExecInput::Data(Vec::new())).await.expect("it reads");
    assert_eq!(cat.output.recv().await, Some(ExecOutput::Exited { code: 0, signal: 0 }));
    let mut missing = host.exec(context(), id, argv(&["nowhere"])).await.expect("it is sent");
    let end = missing.output.recv().await;
    assert!(matches!(end, Some(ExecOutput::Failed(ExecError::NotFound(_)))), "{end:?}");
    host.stop(context(), id, Stop::default()).await.expect("stopped");
    state(host, id, &["stopped"]).await;
    let down = host.exec(context(), id, argv(&["echo"])).await.map(drop);
    assert!(matches!(down, Err(HostError::Conflict(_))), "{down:?}");
    gone(host, id).await;
}

async fn lines_of_the_platform_are_in_the_log(host: &dyn Host) {
    let id = started(host, 11).await;
    let line = |machine, message: &str| LogLine {
        app: AppId(7),
        machine,
        provider: "proxy".into(),
        level: "info".into(),
        message: message.into(),
    };
    let query = LogQuery { follow: true, ..LogQuery::default() };
    let mut lines = host.logs(context(), AppId(7), query).await.expect("the log is read");
    host.append(line(Some(id), "about the machine"));
    host.append(line(None, "about the app"));
    let mut wanted = vec!["about the machine", "about the app"];
    while !wanted.is_empty() {
        let entry = lines.next().await.expect("a followed log does not end");
        wanted.retain(|message| *message != entry.message);
    }
    drop(lines);
    let other = host.logs(context(), AppId(8), LogQuery::default()).await.expect("a log");
    assert_eq!(other.collect::<Vec<_>>().await, [], "of another app there is nothing");
    gone(host, id).await;
}

async fn events_are_followed_without_gaps(host: &dyn Host) {
    let follow = async |filter| host.follow_events(context(), filter).await.expect("followed");
    let mut all = follow(EventFilter::default()).await;
    let Some(FeedItem::Position { at: begin }) = all.next().await else { panic!("a position") };
    let id = started(host, 16).await;
    gone(host, id).await;
    let own = EventFilter { machine: Some(id), ..EventFilter::default() };
    let expected: Vec<String> = host
        .events(context(), id, 50, None)
        .await
        .expect("its events")
        .into_iter()
        .rev()
        .map(|event| event.id)
        .collect();
    assert!(expected.len() >= 3, "a launch, a start and a destroy: {expected:?}");
    let mut numbers = vec![begin];
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        // Other machines of the contract may still be going down.
        match all.next().await.expect("a feed does not end") {
            FeedItem::Event(event) if event.machine == id => {
                numbers.push(event.number);
                seen.push(event.event.id.clone());
            }
            FeedItem::Event(event) => numbers.push(event.number),
            FeedItem::Position { at } => assert!(at >= numbers[numbers.len() - 1]),
            FeedItem::Gap { at } => panic!("a gap at {at}"),
        }
    }
    assert_eq!(seen, expected, "in the order of the machine's own list");
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    for (after, rest) in [(begin, &expected[..]), (numbers[numbers.len() - 1], &[])] {
        let again = follow(EventFilter { after: Some(after), ..own.clone() }).await;
        let ids = again.filter_map(async |item| match item {
            FeedItem::Event(event) => Some(event.event.id.clone()),
            _ => None,
        });
        assert_eq!(ids.take(rest.len()).collect::<Vec<_>>().await, rest, "after {after}");
    }
    let lost = EventFilter { after: Some(u64::MAX >> 1), ..own.clone() };
    let first = follow(lost).await.next().await;
    assert!(matches!(first, Some(FeedItem::Gap { .. })), "{first:?}");
    let foreign = EventFilter { app: Some(AppId(8)), after: Some(begin), ..EventFilter::default() };
    let mut foreign = follow(foreign).await;
    assert!(matches!(foreign.next().await, Some(FeedItem::Position { .. })));
    assert!(futures_util::poll!(foreign.next()).is_pending(), "of another app there is nothing");
}

async fn images_come_and_go(host: &dyn Host, tar: Vec<u8>) {
    let upload = Box::new(std::io::Cursor::new(tar));
    let name = ImportName { name: Some("imported:1".into()), file_name: Some("web.tar".into()) };
    let progress = host.import_image(context(), name, upload).await;
    let steps: Vec<ImageProgress> = progress.expect("an import").collect().await;
    let Some(ImageProgress::Done { image }) = steps.last() else { panic!("{steps:?}") };
    assert!(image.references.iter().any(|name| name.contains("imported")), "{image:?}");
    let resolved = host.resolve_image(context(), "imported:1".into()).await.expect("resolved");
    assert_eq!(resolved.digest, image.digest);
    let images = host.images(context()).await.expect("a list");
    assert!(images.iter().any(|listed| listed.digest == image.digest));
    assert_eq!(host.remove_image(context(), "imported:1".into()).await, Ok(true));
    assert_eq!(host.remove_image(context(), "imported:1".into()).await, Ok(false));
}

async fn memory_of_a_machine_that_runs(host: &dyn Host) {
    let id = started(host, 15).await;
    let memory = host.memory(context(), id).await.expect("it runs");
    assert!(memory.limit_mb == 256 && memory.available_mb <= 256, "{memory:?}");
    assert_eq!(host.limit_memory(context(), id, 256).await.map(|now| now.limit_mb), Ok(256));
    let other = host.limit_memory(context(), id, 128).await;
    assert!(matches!(other, Err(HostError::Unsupported(_))), "{other:?}");
    let given = host.reclaim_memory(context(), id, 1000).await.expect("it is tried");
    assert!(given.actual_mb <= 256, "{given:?}");
    host.stop(context(), id, Stop::default()).await.expect("stopped");
    state(host, id, &["stopped"]).await;
    let down = host.memory(context(), id).await;
    assert!(matches!(down, Err(HostError::Conflict(_))), "{down:?}");
    gone(host, id).await;
}

async fn boots_that_are_over_are_not_connected_to(host: &dyn Host) {
    let id = started(host, 12).await;
    let boot = BootId::new(1, 1);
    let over = host.connect(context(), Upstream { machine: id, boot, port: 80 }).await;
    let kind = over.map(drop).map_err(|err| err.kind());
    assert_eq!(kind, Err(std::io::ErrorKind::NotFound));
    gone(host, id).await;
}
