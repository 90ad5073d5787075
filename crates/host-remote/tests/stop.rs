//! Streams that are under way when the process at one of their ends stops, or leaves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use async_trait::async_trait;
use futures_util::StreamExt;
use host_api::{
    CallContext, Connections, Exec, ExecError, ExecInput, ExecOutput, ExecSession, ExecStart,
    GuestStream, HostError, Images, ImportName, LogLine, Routes, Upstream,
};
use host_remote::{Dial, Peer, RemoteHost, Role, Server};
use model::id::{HostId, MachineId};
use rt::Tasks;
use std::io;
use std::time::Duration;
use testkit::FakeHost;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use wire::exec::TermSize;
use wire::machines::ImageProgress;

/// Longer than anything here takes; a guard, not a measure.
const GUARD: Duration = Duration::from_secs(60);

/// A host and its caller, each a process that can be stopped.
struct Pair {
    fake: FakeHost,
    host: Tasks,
    remote: RemoteHost,
    caller: Tasks,
}

struct InMemory(Server);

#[async_trait]
impl Dial for InMemory {
    async fn dial(&self) -> io::Result<Box<dyn GuestStream>> {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let peer = Peer { name: "api".into(), roles: [Role::Control].into() };
        let server = self.0.clone();
        Tasks::new().spawn(async move { server.serve(peer, theirs).await });
        Ok(Box::new(ours))
    }
}

impl Pair {
    fn new() -> Self {
        let fake = FakeHost::new(HostId(3), "local");
        let (host, caller) = (Tasks::new(), Tasks::new());
        let server = Server::new(std::sync::Arc::new(fake.clone()), host.clone());
        let dial = std::sync::Arc::new(InMemory(server));
        let remote = RemoteHost::new(HostId(3), dial, caller.clone());
        Self { fake, host, remote, caller }
    }

    fn side(&self, side: Side) -> &Tasks {
        match side {
            Side::Host => &self.host,
            Side::Caller => &self.caller,
        }
    }

    async fn machine(&self) -> MachineId {
        testkit::create_machine(&self.remote, 1).await
    }

    /// A connection to the app of a machine, and the app's end of it.
    async fn connect(&self) -> (Box<dyn GuestStream>, TcpStream) {
        let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let id = self.machine().await;
        self.fake.set_upstream(id, app.local_addr().unwrap());
        let routes = self.remote.routes(context()).await.unwrap().snapshot.routes;
        let upstream = Upstream { machine: id, boot: routes[0].boot.unwrap(), port: 80 };
        let stream = self.remote.connect(context(), upstream).await.unwrap();
        (stream, app.accept().await.unwrap().0)
    }

    async fn cat(&self, tty: bool) -> ExecSession {
        let tty = tty.then_some(TermSize { rows: 24, cols: 80 });
        let cat = ExecStart { argv: vec!["cat".into()], tty, ..ExecStart::default() };
        let mut session = self.remote.exec(context(), self.machine().await, cat).await.unwrap();
        session.input.send(ExecInput::Data(b"one".to_vec())).await.unwrap();
        assert_eq!(session.output.recv().await, Some(ExecOutput::Stdout(b"one".to_vec())));
        session
    }

    /// Begins an import whose tar is read from the stream that is returned.
    fn import(&self) -> (DuplexStream, impl Future<Output = Last> + 'static) {
        let (tar, upload) = tokio::io::duplex(1024);
        let remote = self.remote.clone();
        let importing = async move {
            let name = ImportName { name: Some("web:1".into()), file_name: None };
            let steps = remote.import_image(context(), name, Box::new(upload)).await?;
            Ok(steps.collect::<Vec<_>>().await.pop())
        };
        (tar, importing)
    }
}

/// The last step of an import, or why there was none.
type Last = Result<Option<ImageProgress>, HostError>;

#[derive(Clone, Copy, Debug)]
enum Side {
    Host,
    Caller,
}

const SIDES: [Side; 2] = [Side::Host, Side::Caller];

fn context() -> CallContext {
    CallContext::control(GUARD)
}

async fn guarded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(GUARD, future).await.expect("it ends")
}

/// The first bytes of an answer have come, and the app is at work on the rest.
async fn begun(pair: &Pair) -> (Box<dyn GuestStream>, TcpStream) {
    let (mut stream, mut app) = pair.connect().await;
    stream.write_all(b"GET").await.unwrap();
    let mut asked = [0; 3];
    app.read_exact(&mut asked).await.unwrap();
    app.write_all(b"begin").await.unwrap();
    let mut begin = [0; 5];
    stream.read_exact(&mut begin).await.unwrap();
    (stream, app)
}

#[tokio::test]
async fn a_connection_to_a_guest_is_finished_when_either_side_stops() {
    for side in SIDES {
        let pair = Pair::new();
        let (mut stream, mut app) = begun(&pair).await;
        pair.side(side).stop();
        tokio::task::yield_now().await;
        let rest = vec![b'x'; 300_000];
        let (answered, read) = tokio::join!(
            async {
                app.write_all(&rest).await?;
                app.shutdown().await
            },
            async {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.map(|_| all.len())
            }
        );
        answered.unwrap();
        assert_eq!(read.unwrap(), rest.len(), "{side:?}");
        drop((stream, app));
        assert!(guarded(pair.side(side).shutdown(GUARD)).await, "{side:?}: it waits for nothing");
    }
}

#[tokio::test]
async fn a_connection_that_outlives_its_grace_does_not_end_as_if_it_were_whole() {
    for side in SIDES {
        let pair = Pair::new();
        let (mut stream, mut app) = begun(&pair).await;
        // Nothing is under way any more; only time has to pass.
        tokio::time::pause();
        pair.side(side).stop();
        let mut rest = Vec::new();
        let cut = guarded(stream.read_to_end(&mut rest)).await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::ConnectionReset, "{side:?}: {cut}");
        tokio::time::resume();
        // The app learns of it, too.
        assert_eq!(guarded(app.read(&mut [0; 1])).await.unwrap_or(0), 0, "{side:?}");
    }
}

#[tokio::test]
async fn a_guest_that_resets_its_connection_does_not_end_it_as_if_it_were_whole() {
    let pair = Pair::new();
    let (mut stream, app) = begun(&pair).await;
    // Closing without a linger time resets the connection.
    app.set_zero_linger().unwrap();
    drop(app);
    let mut rest = Vec::new();
    let reset = guarded(stream.read_to_end(&mut rest)).await.unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset, "{reset}");
}

#[tokio::test]
async fn a_guest_that_closes_first_is_seen_to_have_closed() {
    let pair = Pair::new();
    let (mut stream, app) = begun(&pair).await;
    drop(app);
    let mut rest = Vec::new();
    // The caller's own direction is still open.
    guarded(stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn a_caller_that_leaves_ends_its_connection_to_a_silent_guest() {
    let pair = Pair::new();
    let (mut stream, mut app) = begun(&pair).await;
    stream.write_all(b"last bytes").await.unwrap();
    drop(stream);
    let mut rest = Vec::new();
    guarded(app.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"last bytes");
    // The app does not close its end. After a while nothing is held for it all the same.
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let begun = tokio::time::Instant::now();
    assert!(pair.host.shutdown(GUARD).await && pair.caller.shutdown(GUARD).await);
    assert!(begun.elapsed() < Duration::from_secs(1), "the grace was waited for");
    drop(app);
}

#[tokio::test]
async fn a_command_is_finished_when_either_side_stops() {
    for side in SIDES {
        let pair = Pair::new();
        let ExecSession { input, mut output } = pair.cat(false).await;
        pair.side(side).stop();
        tokio::task::yield_now().await;
        input.send(ExecInput::Data(b"two".to_vec())).await.unwrap();
        assert_eq!(output.recv().await, Some(ExecOutput::Stdout(b"two".to_vec())), "{side:?}");
        input.send(ExecInput::Data(Vec::new())).await.unwrap();
        let end = guarded(output.recv()).await;
        assert_eq!(end, Some(ExecOutput::Exited { code: 0, signal: 0 }), "{side:?}");
        assert!(guarded(pair.side(side).shutdown(GUARD)).await, "{side:?}: it waits for nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_outlives_its_grace_is_lost() {
    for side in SIDES {
        let pair = Pair::new();
        let mut session = pair.cat(false).await;
        pair.side(side).stop();
        let end = session.output.recv().await;
        assert!(matches!(end, Some(ExecOutput::Failed(ExecError::Lost(_)))), "{side:?}: {end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_terminal_ends_at_once_when_either_side_stops() {
    for side in SIDES {
        let pair = Pair::new();
        let mut session = pair.cat(true).await;
        let begun = tokio::time::Instant::now();
        pair.side(side).stop();
        let end = session.output.recv().await;
        let Some(ExecOutput::Failed(ExecError::Lost(why))) = end else {
            panic!("{side:?}: {end:?}")
        };
        assert!(why.contains("stops"), "{side:?}: {why}");
        assert_eq!(begun.elapsed(), Duration::ZERO, "{side:?}");
    }
}

#[tokio::test]
async fn an_import_is_finished_when_either_side_stops() {
    for side in SIDES {
        let pair = Pair::new();
        let (mut tar, importing) = pair.import();
        let uploading = async {
            // More than there is room for on the way: the host has begun to read.
            tar.write_all(&vec![7; 2_000_000]).await.unwrap();
            pair.side(side).stop();
            tar.write_all(&vec![7; 1_000_000]).await.unwrap();
            drop(tar);
        };
        let ((), last) = guarded(async { tokio::join!(uploading, importing) }).await;
        let Ok(Some(ImageProgress::Done { image })) = last else { panic!("{side:?}: {last:?}") };
        assert_eq!(image.size, 3_000_000, "{side:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_cut_off_is_no_image() {
    for side in SIDES {
        let pair = Pair::new();
        let (mut tar, importing) = pair.import();
        let importing = Tasks::new().spawn(importing);
        tar.write_all(&vec![7; 2_000_000]).await.unwrap();
        pair.side(side).stop();
        // The rest does not come within the grace.
        let last = importing.await.unwrap();
        assert!(matches!(last, Err(_) | Ok(Some(ImageProgress::Failed { .. }))), "{last:?}");
        assert_eq!(pair.fake.images(context()).await.unwrap(), [], "{side:?}");
    }
}

/// Dials a host through a relay that can be held up.
struct Relayed {
    server: Server,
    is_held: tokio::sync::watch::Receiver<bool>,
}

#[async_trait]
impl Dial for Relayed {
    async fn dial(&self) -> io::Result<Box<dyn GuestStream>> {
        let ours = InMemory(self.server.clone()).dial().await?;
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (mut from_caller, mut to_caller) = tokio::io::split(near);
        let (mut from_host, mut to_host) = tokio::io::split(ours);
        let mut is_held = self.is_held.clone();
        Tasks::new().spawn(async move { tokio::io::copy(&mut from_host, &mut to_caller).await });
        Tasks::new().spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from_caller.read(&mut buffer).await {
                let _ = is_held.wait_for(|held| !held).await;
                if to_host.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        });
        Ok(Box::new(far))
    }
}

#[tokio::test(start_paused = true)]
async fn machines_that_are_drained_do_not_hold_up_the_lines_for_a_host_that_hangs() {
    let fake = FakeHost::new(HostId(3), "local");
    let server = Server::new(std::sync::Arc::new(fake.clone()), Tasks::new());
    let (hold, is_held) = tokio::sync::watch::channel(false);
    let dial = std::sync::Arc::new(Relayed { server, is_held });
    let remote = RemoteHost::new(HostId(3), dial, Tasks::new());
    host_api::Status::info(&remote, context()).await.unwrap();
    hold.send_replace(true);
    for n in 0..200 {
        host_api::Load::drained(&remote, MachineId::from_random(n));
    }
    let (provider, level, message) = ("proxy".into(), "info".into(), "a line".into());
    let line = LogLine { app: model::id::AppId(1), machine: None, provider, level, message };
    host_api::Logs::append(&remote, line);
    tokio::time::sleep(Duration::from_secs(3)).await;
    hold.send_replace(false);
    let arrived = fake.until(|fake| fake.lines_of_edges() == ["a line"]);
    let began = tokio::time::Instant::now();
    guarded(arrived).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // One that is drained now is reported at once.
    let id = MachineId::from_random(999);
    host_api::Load::drained(&remote, id);
    guarded(fake.until(|fake| fake.drained().contains(&id))).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}
