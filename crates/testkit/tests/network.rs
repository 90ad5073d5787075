//! Calls to a host while the network in between fails.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use host_api::{CallContext, Connections, HostError, Machines, Routes, Status, Stop, Upstream};
use host_remote::{RemoteHost, Role, Server};
use model::id::{HostId, MachineId};
use rt::Tasks;
use std::sync::Arc;
use std::time::Duration;
use testkit::FakeHost;
use testkit::cluster::SimulatedNetwork;

struct Pair {
    network: SimulatedNetwork,
    host: FakeHost,
    remote: RemoteHost,
    tasks: Tasks,
}

fn pair() -> Pair {
    let tasks = Tasks::new();
    let network = SimulatedNetwork::new(tasks.clone());
    let host = FakeHost::new(HostId(1), "local");
    network.serve("host", Server::new(Arc::new(host.clone()), tasks.clone()));
    let dial = network.dial("api", &[Role::Control], "host");
    let remote = RemoteHost::new(HostId(1), dial, tasks.clone());
    Pair { network, host, remote, tasks }
}

fn context() -> CallContext {
    CallContext::control(Duration::from_secs(5))
}

#[tokio::test(start_paused = true)]
async fn a_call_over_a_cut_link_ends_at_its_deadline_and_works_after_healing() {
    let Pair { network, remote, .. } = pair();
    remote.info(context()).await.unwrap();
    network.cut("api", "host");
    let late = remote.info(context()).await;
    assert!(matches!(late, Err(HostError::DeadlineExceeded(_))), "{late:?}");
    network.heal("api", "host");
    remote.info(context()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_answer_is_lost_has_happened() {
    let Pair { network, host, remote, .. } = pair();
    let id = testkit::create_machine(&remote, 1).await;
    network.cut_one_way("host", "api");
    let unknown = remote.stop(context(), id, Stop::default()).await;
    assert!(matches!(unknown, Err(HostError::DeadlineExceeded(_))), "{unknown:?}");
    assert_eq!(host.stops().len(), 1, "the host has done it");
    network.heal("api", "host");
    remote.stop(context(), id, Stop::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_learns_that_a_silent_host_is_gone() {
    let Pair { network, remote, .. } = pair();
    let mut routes = remote.routes(context()).await.unwrap();
    network.cut("api", "host");
    let ended = tokio::time::timeout(Duration::from_secs(60), routes.changes.recv()).await;
    assert_eq!(ended.unwrap(), None, "pings notice a connection that was not closed");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_gone_and_another_in_its_place() {
    let Pair { network, remote, tasks, .. } = pair();
    remote.info(context()).await.unwrap();
    network.remove("host");
    let away = remote.stop(context(), MachineId::from_random(1), Stop::default()).await;
    assert!(matches!(away, Err(HostError::Unavailable { .. })), "{away:?}");
    let other = FakeHost::new(HostId(9), "local");
    network.serve("host", Server::new(Arc::new(other), tasks.clone()));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let refused = remote.info(context()).await.unwrap_err().to_string();
    assert!(refused.contains("it is host 9, not host 1"), "{refused}");
    network.remove("host");
    // The same host, started again elsewhere.
    let again = FakeHost::new(HostId(1), "elsewhere");
    network.serve("host", Server::new(Arc::new(again), tasks));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(remote.info(context()).await.unwrap().region, "elsewhere");
}

#[tokio::test(start_paused = true)]
async fn a_silent_guest_is_distinguished_from_a_silent_host() {
    let Pair { network, host, remote, tasks } = pair();
    let machine = testkit::create_machine(&remote, 1).await;
    let routes = remote.routes(context()).await.unwrap().snapshot.routes;
    let upstream = Upstream { machine, boot: routes[0].boot.unwrap(), port: 80 };
    host.set_upstream(machine, ([127, 0, 0, 1], 80).into());
    let edge = network.dial("edge", &[Role::Edge], "host");
    let edge = RemoteHost::new(HostId(1), edge, tasks);
    let connect = async || {
        let failed = edge.connect(CallContext::edge(Duration::from_secs(5)), upstream).await;
        let failed = failed.err().unwrap();
        assert_eq!(failed.kind(), std::io::ErrorKind::TimedOut, "{failed}");
        failed.get_ref().is_some_and(|cause| cause.is::<HostError>())
    };
    let _never_released = host.pause_next("connect");
    assert!(!connect().await, "it is the guest that does not answer");
    network.cut("edge", "host");
    assert!(connect().await, "it is the host");
}

#[tokio::test(start_paused = true)]
async fn a_slow_link_delays_and_loses_nothing() {
    let Pair { network, remote, .. } = pair();
    network.delay("api", "host", Duration::from_millis(200));
    let begun = tokio::time::Instant::now();
    remote.info(context()).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(400), "there and back");
    let id = testkit::create_machine(&remote, 1).await;
    assert_eq!(remote.machine(context(), id).await.unwrap().state, "started");
}
