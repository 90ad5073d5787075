//! A host behind TLS passes the contract that it passes without.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use host_api::{CallContext, GuestListener, Host, HostError, Machines, Status, Stop, Upstream};
use host_remote::{Authority, Credentials, Peer, RemoteHost, Role, Server, TlsDial};
use model::id::{BootId, HostId, MachineId};
use rt::Tasks;
use std::sync::Arc;
use std::time::Duration;
use testkit::{FakeHost, Subject};
use tokio::net::TcpListener;

const DAY: Duration = Duration::from_secs(24 * 3600);

struct Platform {
    authority: Authority,
    now_ms: u64,
    tasks: Tasks,
}

impl Platform {
    fn new() -> Self {
        let now_ms = rt::Clock::system().now_ms();
        let authority = Authority::create("test", now_ms, DAY).unwrap();
        Self { authority, now_ms, tasks: Tasks::new() }
    }

    fn issue(&self, name: &str, roles: &[Role]) -> Credentials {
        let peer = Peer { name: name.into(), roles: roles.iter().copied().collect() };
        self.authority.issue(&peer, &[], self.now_ms, DAY).unwrap()
    }

    fn certificate(&self) -> &str {
        &self.authority.credentials().certificate
    }

    /// Serves a host under a name; the address that it listens on.
    async fn serve(&self, host: &FakeHost, name: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Server::new(Arc::new(host.clone()), self.tasks.clone());
        let own = self.issue(name, &[Role::Worker]);
        server.listen(listener, self.certificate(), &own).unwrap();
        address
    }

    fn client(&self, name: &str, address: &str, own: &Credentials) -> RemoteHost {
        let dial = TlsDial::new(name, address, self.certificate(), own).unwrap();
        RemoteHost::new(HostId(3), Arc::new(dial), self.tasks.clone())
    }
}

fn context() -> CallContext {
    CallContext::control(Duration::from_secs(10))
}

fn host() -> FakeHost {
    FakeHost::new(HostId(3), "local")
}

#[tokio::test]
async fn a_remote_host_passes_the_contract_of_hosts() {
    let platform = Platform::new();
    let address = platform.serve(&host(), "one").await;
    let remote = platform.client("one", &address, &platform.issue("api", &[Role::Control]));
    let host: Arc<dyn Host> = Arc::new(remote);
    testkit::host_api_contract(Subject { host, tar: vec![7; 300_000] }).await;
}

#[tokio::test]
async fn a_host_is_accepted_under_its_name_only() {
    let platform = Platform::new();
    let address = platform.serve(&host(), "one").await;
    let own = platform.issue("api", &[Role::Control]);
    let refused = platform.client("two", &address, &own).info(context()).await;
    assert!(
        matches!(&refused, Err(HostError::Unavailable { may_have_run: false, .. })),
        "{refused:?}"
    );
    platform.client("one", &address, &own).info(context()).await.unwrap();
}

#[tokio::test]
async fn a_peer_of_another_platform_is_refused() {
    let (platform, other) = (Platform::new(), Platform::new());
    let address = platform.serve(&host(), "one").await;
    let stranger = other.issue("api", &[Role::Control]);
    let refused = platform.client("one", &address, &stranger).info(context()).await;
    assert!(matches!(refused, Err(HostError::Unavailable { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_certificate_gives_the_rights_of_its_roles() {
    let platform = Platform::new();
    let address = platform.serve(&host(), "one").await;
    let id = MachineId::from_random(1);
    let edge = platform.client("one", &address, &platform.issue("edge", &[Role::Edge]));
    edge.info(context()).await.unwrap();
    let refused = edge.destroy(context(), id, true).await;
    assert!(
        matches!(&refused, Err(HostError::Internal(why)) if why.contains("role")),
        "{refused:?}"
    );
    let logs = host_api::Logs::logs(&edge, context(), model::id::AppId(1), Default::default());
    let refused = logs.await.err();
    assert!(
        matches!(&refused, Some(HostError::Internal(why)) if why.contains("role")),
        "{refused:?}"
    );
    let worker = platform.client("one", &address, &platform.issue("two", &[Role::Worker]));
    assert!(worker.info(context()).await.is_err());
}

#[tokio::test]
async fn a_host_that_is_away_answers_at_once_and_comes_back() {
    let platform = Platform::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let own = platform.issue("api", &[Role::Control]);
    let remote = platform.client("one", &address, &own);
    for _ in 0..20 {
        let away = remote.stop(context(), MachineId::from_random(1), Stop::default()).await;
        assert!(
            matches!(away, Err(HostError::Unavailable { may_have_run: false, .. })),
            "{away:?}"
        );
    }
    let listener = TcpListener::bind(&address).await.unwrap();
    let server = Server::new(Arc::new(host()), platform.tasks.clone());
    let own = platform.issue("one", &[Role::Worker]);
    server.listen(listener, platform.certificate(), &own).unwrap();
    let back = async {
        while remote.info(context()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), back).await.unwrap();
}

#[tokio::test]
async fn a_host_that_never_answers_costs_no_more_than_the_deadline() {
    let platform = Platform::new();
    // It accepts, and sends nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let own = platform.issue("api", &[Role::Control]);
    let remote = platform.client("one", &address, &own);
    let short = CallContext::control(Duration::from_millis(100));
    let late = remote.info(short).await;
    assert!(matches!(late, Err(HostError::DeadlineExceeded(_))), "{late:?}");
}

#[tokio::test]
async fn a_connection_to_a_guest_carries_bytes_both_ways() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let platform = Platform::new();
    let host = host();
    let address = platform.serve(&host, "one").await;
    let remote = platform.client("one", &address, &platform.issue("edge", &[Role::Control]));
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let id = testkit::create_machine(&remote, 1).await;
    host.set_upstream(id, app.local_addr().unwrap());
    let route = host_api::Routes::routes(&remote, context()).await.unwrap().snapshot.routes;
    let boot = route[0].boot.unwrap();
    let upstream = Upstream { machine: id, boot, port: 80 };
    let stream = host_api::Connections::connect(&remote, context(), upstream).await.unwrap();
    let (mut served, _) = app.accept().await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let big = vec![b'x'; 1_000_000];
    let sending = async {
        writer.write_all(&big).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let echoing = async {
        let mut all = Vec::new();
        served.read_to_end(&mut all).await.unwrap();
        served.write_all(&all).await.unwrap();
        drop(served);
        all.len()
    };
    let reading = async {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        all
    };
    let ((), received, returned) = tokio::join!(sending, echoing, reading);
    assert_eq!((received, returned.len()), (big.len(), big.len()));
    let over = Upstream { boot: BootId::new(1, 1), ..upstream };
    let refused = host_api::Connections::connect(&remote, context(), over).await.map(drop);
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_guest_reaches_the_api_through_the_host() {
    use futures_util::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let platform = Platform::new();
    let host = host();
    let address = platform.serve(&host, "one").await;
    let remote = platform.client("one", &address, &platform.issue("api", &[Role::Control]));
    let id = testkit::create_machine(&remote, 1).await;
    let guests = host_api::Connections::guest_connections(&remote, context()).await;
    let mut guests = guests.unwrap();
    let mut guest = host.connect_from_guest(id, GuestListener::Tcp).await.unwrap();
    let mut connection = guests.next().await.unwrap();
    assert_eq!((connection.machine, connection.listener), (id, GuestListener::Tcp));
    guest.write_all(b"GET").await.unwrap();
    let mut asked = [0; 3];
    connection.io.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"GET");
    connection.io.write_all(b"200").await.unwrap();
    drop(connection);
    let mut answer = Vec::new();
    guest.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"200");
}

/// Writes until the peer takes no more.
async fn write_until_stalled(mut to: impl tokio::io::AsyncWrite + Unpin) {
    use tokio::io::AsyncWriteExt;
    let piece = vec![b'x'; 64 * 1024];
    let most = Duration::from_millis(300);
    while let Ok(written) = tokio::time::timeout(most, to.write_all(&piece)).await {
        written.unwrap();
    }
}

#[tokio::test]
async fn streams_that_are_not_read_do_not_stop_other_calls() {
    let platform = Platform::new();
    let host = host();
    let address = platform.serve(&host, "one").await;
    let remote = platform.client("one", &address, &platform.issue("api", &[Role::Control]));
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let id = testkit::create_machine(&remote, 1).await;
    host.set_upstream(id, app.local_addr().unwrap());
    let route = host_api::Routes::routes(&remote, context()).await.unwrap().snapshot.routes;
    let upstream = Upstream { machine: id, boot: route[0].boot.unwrap(), port: 80 };
    let mut ends = Vec::new();
    for _ in 0..8 {
        let stream = host_api::Connections::connect(&remote, context(), upstream).await.unwrap();
        ends.push((stream, app.accept().await.unwrap().0));
    }
    let stalled = ends.iter_mut().map(|(stream, served)| async {
        tokio::join!(write_until_stalled(stream), write_until_stalled(served));
    });
    futures_util::future::join_all(stalled).await;
    remote.machine(context(), id).await.unwrap();
    let big = host_api::Images::import_image(
        &remote,
        context(),
        Default::default(),
        Box::new(std::io::Cursor::new(vec![7; 3_000_000])),
    );
    drop(big.await.unwrap());
}

#[tokio::test]
async fn a_peer_that_is_another_host_is_refused() {
    let platform = Platform::new();
    let other = FakeHost::new(HostId(4), "local");
    let address = platform.serve(&other, "one").await;
    let remote = platform.client("one", &address, &platform.issue("api", &[Role::Control]));
    let refused = remote.stop(context(), MachineId::from_random(1), Stop::default()).await;
    let Err(HostError::Unavailable { message, may_have_run: false }) = refused else {
        panic!("{refused:?}");
    };
    assert!(message.contains("it is host 4, not host 3"), "{message}");
    assert_eq!(other.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn a_call_under_way_has_its_grace_when_the_caller_stops() {
    let platform = Platform::new();
    let host = host();
    let address = platform.serve(&host, "one").await;
    let own = platform.issue("api", &[Role::Control]);
    let dial = TlsDial::new("one", &address, platform.certificate(), &own).unwrap();
    let tasks = Tasks::new();
    let remote = RemoteHost::new(HostId(3), Arc::new(dial), tasks.clone());
    let id = testkit::create_machine(&remote, 1).await;
    let pause = host.pause_next("stop");
    let (stopped, ()) = tokio::join!(remote.stop(context(), id, Stop::default()), async {
        pause.reached().await;
        tasks.stop();
        tokio::task::yield_now().await;
        pause.release();
    });
    stopped.unwrap();
    let late = remote.stop(context(), id, Stop::default()).await;
    assert!(matches!(late, Err(HostError::Unavailable { may_have_run: false, .. })), "{late:?}");
    assert!(tasks.shutdown(Duration::from_secs(4)).await, "an idle connection ends at once");
}

/// Dials only once the test lets it.
struct SlowDial(TlsDial, Arc<tokio::sync::Semaphore>, Arc<std::sync::atomic::AtomicUsize>);

#[async_trait::async_trait]
impl host_remote::Dial for SlowDial {
    async fn dial(&self) -> std::io::Result<Box<dyn host_api::GuestStream>> {
        self.2.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.1.acquire().await.unwrap().forget();
        self.0.dial().await
    }
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_end_the_dial_of_the_others() {
    let platform = Platform::new();
    let address = platform.serve(&host(), "one").await;
    let own = platform.issue("api", &[Role::Control]);
    let dial = TlsDial::new("one", &address, platform.certificate(), &own).unwrap();
    let (gate, dials) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::default());
    let dial = SlowDial(dial, gate.clone(), Arc::clone(&dials));
    let remote = RemoteHost::new(HostId(3), Arc::new(dial), platform.tasks.clone());
    let impatient = remote.info(CallContext::control(Duration::from_millis(20))).await;
    assert!(matches!(impatient, Err(HostError::DeadlineExceeded(_))), "{impatient:?}");
    gate.add_permits(1);
    remote.info(context()).await.unwrap();
    assert_eq!(dials.load(std::sync::atomic::Ordering::SeqCst), 1, "there is one dial");
}

#[tokio::test]
async fn an_edge_cannot_pass_for_another_caller() {
    let platform = Platform::new();
    let host = host();
    let address = platform.serve(&host, "one").await;
    let edge = platform.client("one", &address, &platform.issue("edge", &[Role::Edge]));
    let forged = host_api::Caller::Token("admin".into());
    let forged = CallContext { caller: forged, ..context() };
    edge.info(forged).await.unwrap();
    assert_eq!(host.callers().last(), Some(&host_api::Caller::Edge));
}

#[tokio::test]
async fn one_machine_does_not_take_up_the_places_of_guests() {
    use futures_util::{FutureExt, StreamExt};
    let platform = Platform::new();
    let host = host();
    let address = platform.serve(&host, "one").await;
    let remote = platform.client("one", &address, &platform.issue("api", &[Role::Control]));
    let greedy = testkit::create_machine(&remote, 1).await;
    let other = testkit::create_machine(&remote, 2).await;
    let guests = host_api::Connections::guest_connections(&remote, context()).await;
    let mut guests = guests.unwrap();
    // The stream is not polled, so that nothing is fetched.
    let mut opened = Vec::new();
    for _ in 0..100 {
        opened.push(host.connect_from_guest(greedy, GuestListener::Socket).await.unwrap());
    }
    let _kept = host.connect_from_guest(other, GuestListener::Socket).await.unwrap();
    let mut seen = 0;
    let found = async {
        while let Some(connection) = guests.next().await {
            if connection.machine == other {
                return;
            }
            seen += 1;
        }
        panic!("the stream ended");
    };
    tokio::time::timeout(Duration::from_secs(10), found).await.unwrap();
    assert!(seen <= 4, "{seen}");
    assert!(guests.next().now_or_never().is_none());
}
