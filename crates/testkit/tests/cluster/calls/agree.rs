//! Compares the several ways to read the platform with each other and with the model.

use super::model::{Known, at_rest, leads, state};
use super::run::{Run, at};
use model::life::State;
use serde_json::Value;
use std::cell::RefCell;
use testkit::cluster::Cluster;

/// Events in one page of a machine's list.
const PAGE: usize = 50;

/// Once every machine is at rest: all ways to read it agree with each other and with the model.
pub(super) async fn agree(run: &mut Run<'_>) {
    let cluster = &*run.cluster;
    let mut listed = Vec::new();
    for known in &run.machines {
        let machine = rested(cluster, &known.id).await;
        let read = (state(machine["state"].as_str().unwrap()), &machine["instance_id"]);
        assert_eq!(read, (known.state, &Value::from(known.version.clone())), "{machine}");
        check_lease(cluster, known).await;
        let events = events(cluster, &known.id).await;
        check_life(known, &events);
        check_watch(run, &known.id, &events).await;
        check_wait(cluster, known, &events).await;
        if known.state != State::Destroyed {
            listed.push(machine);
        }
    }
    listed.sort_by_key(|machine| machine["id"].as_str().map(str::to_owned));
    assert_eq!(cluster.list("web").await, listed, "the list shows what a get shows");
}

/// A machine once it is at rest.
pub(super) async fn rested(cluster: &Cluster, id: &str) -> Value {
    let read = RefCell::new(Value::Null);
    let rests = async || {
        let (status, machine) = cluster.get(&at(id, "")).await;
        assert_eq!(status, 200, "a destroyed machine can be read, too: {machine}");
        let rests = at_rest(state(machine["state"].as_str().unwrap()));
        *read.borrow_mut() = machine;
        rests
    };
    cluster.until(&format!("machine {id} is at rest"), rests).await;
    read.into_inner()
}

async fn check_lease(cluster: &Cluster, known: &Known) {
    let (status, lease) = cluster.get(&at(&known.id, "/lease")).await;
    match known.leased {
        true => assert_eq!((status, lease["nonce"].as_str()), (200, Some(known.nonce.as_str()))),
        false => assert_eq!(status, 404, "{known:?}: {lease}"),
    }
}

/// The events of a machine, oldest first.
async fn events(cluster: &Cluster, id: &str) -> Vec<Value> {
    let (mut all, mut before) = (Vec::new(), String::new());
    loop {
        let path = at(id, &format!("/events?limit={PAGE}{before}"));
        let (status, Value::Array(page)) = cluster.get(&path).await else { panic!("{path}") };
        assert_eq!(status, 200, "{path}");
        let is_last = page.len() < PAGE;
        if let Some(oldest) = page.last() {
            before = format!("&before={}", oldest["id"].as_str().unwrap());
        }
        all.extend(page);
        if is_last {
            all.reverse();
            return all;
        }
    }
}

/// Each event's state follows from the one before by the life table; the newest is the machine's.
fn check_life(known: &Known, events: &[Value]) {
    let states: Vec<State> =
        events.iter().map(|event| state(event["status"].as_str().unwrap())).collect();
    assert_eq!(states.first(), Some(&State::Created), "{events:?}");
    assert_eq!(states.last(), Some(&known.state), "{known:?}: {events:#?}");
    for (at, pair) in states.windows(2).enumerate() {
        assert!(leads(pair[0], pair[1]), "event {}: {pair:?} of {events:#?}", at + 1);
    }
    let ids: Vec<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted(), "{ids:?}");
}

/// The watch has the same events in the same order.
async fn check_watch(run: &Run<'_>, id: &str, events: &[Value]) {
    let of = |all: &[Value]| -> Vec<String> {
        all.iter().map(|event| event["id"].as_str().unwrap_or("a gap").to_owned()).collect()
    };
    let watched = || {
        let all = run.watch.events();
        assert!(all.iter().all(|event| event["id"].is_string()), "there is a gap: {all:?}");
        let own: Vec<Value> = all.into_iter().filter(|event| event["machine_id"] == id).collect();
        of(&own)
    };
    let listed = of(events);
    let what = format!("the watch has the events {listed:?}");
    run.cluster.until(&what, async || watched().len() >= listed.len()).await;
    assert_eq!(watched(), listed);
}

/// A wait for the machine's state is met at once, and so is one for any state that it has entered
/// since its first event.
async fn check_wait(cluster: &Cluster, known: &Known, events: &[Value]) {
    let now = known.state.as_str();
    let wait = cluster.get(&at(&known.id, &format!("/wait?state={now}&timeout=1"))).await;
    assert_eq!((wait.0, wait.1["state"].as_str()), (200, Some(now)), "{known:?}: {}", wait.1);
    let first = events[0]["id"].as_str().unwrap();
    let entered = events.windows(2).filter(|pair| pair[0]["status"] != pair[1]["status"]);
    for pair in entered {
        let state = pair[1]["status"].as_str().unwrap();
        if !["started", "stopped", "suspended", "destroyed"].contains(&state) {
            continue;
        }
        let path = at(&known.id, &format!("/wait?state={state}&from_event_id={first}&timeout=1"));
        let (status, answer) = cluster.get(&path).await;
        assert_eq!(status, 200, "{state} of {known:?}: {answer}");
    }
}
