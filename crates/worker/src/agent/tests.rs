//! Sessions with scripted guests.

use super::*;
use crate::logs::LogStore;
use guest_protocol::codec::{Decoder, encode};
use guest_protocol::{Exit, HIGHEST, LOWEST, Phase, ToGuest};
use guest_protocol::{LogSource, ToHost, v2};
use host_api::{ExecError, ExecOutput, ExecStart};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// A guest of one session: it answers the hello, and returns what it was sent.
async fn record(mut port: DuplexStream, read_on: watch::Receiver<bool>) -> Vec<ToGuest> {
    let (mut decoder, mut buffer, mut sent) = (Decoder::default(), vec![0; 1024], Vec::new());
    let mut read_on = read_on;
    while let Ok(read @ 1..) = port.read(&mut buffer).await {
        let mut messages = Vec::new();
        decoder.feed(&buffer[..read], |message: ToGuest| messages.push(message));
        for message in messages {
            if let ToGuest::Hello { version, session, .. } = message {
                let phase = Phase::Running(1);
                let welcome = ToHost::Welcome { version, session, phase, listening: Vec::new() };
                port.write_all(&encode(&welcome)).await.unwrap();
            } else {
                sent.push(message);
            }
        }
        read_on.wait_for(|on| *on).await.unwrap();
    }
    sent
}

fn listen(logs: &std::path::Path) -> (Listen, mpsc::Receiver<Report>) {
    let dir = camino::Utf8Path::from_path(logs).unwrap().to_owned();
    let (limits, clock) = (crate::logs::LogLimits::default(), rt::Clock::system());
    let logs = LogStore::open(dir, "here".into(), limits, clock, rt::FailureHandler::abort());
    let (reports, reported) = mpsc::channel(8);
    let listen = Listen {
        app: "web".into(),
        machine: "m".into(),
        boot: None,
        logs: Arc::new(logs.unwrap()),
        reports,
        ports: watch::channel(Ports::new()).0,
        units: Vec::new(),
        unit_states: watch::channel(UnitStates::new()).0,
        api: ApiFor {
            machine: model::id::MachineId::from_random(1),
            app: "web".into(),
            handler: None,
        },
    };
    (listen, reported)
}

#[tokio::test(start_paused = true)]
async fn quiescing_writes_what_was_sent_and_lets_nothing_follow() {
    let dir = tempfile::tempdir().unwrap();
    let ((listen, mut reports), tasks) = (listen(dir.path()), rt::Tasks::new());
    let (ours, theirs) = tokio::io::duplex(64);
    let (on, read_on) = watch::channel(true);
    let guest = tasks.spawn(record(theirs, read_on));
    let deadline = Duration::from_secs(5);
    let connected = Agent::connect(Box::new(ours), 7, listen, deadline, &tasks).await;
    let (agent, _) = connected.unwrap();
    let (_input, mut output) =
        agent.exec(ExecStart { argv: vec!["top".into()], ..ExecStart::default() }, None, &tasks);
    for n in 0..20 {
        agent.send(&ToGuest::Signal(n)).await.unwrap();
    }
    agent.quiesce().await.unwrap();
    assert!(agent.send(&ToGuest::PowerOff).await.is_err());
    let end = output.recv().await.unwrap();
    assert_eq!(end, ExecOutput::Failed(ExecError::Lost("the machine is being suspended".into())));
    agent.close().await;
    let sent = guest.await.unwrap();
    let signals = sent.iter().filter(|message| matches!(message, ToGuest::Signal(_)));
    assert_eq!(signals.count(), 20);
    assert!(!sent.contains(&ToGuest::PowerOff));
    assert!(reports.recv().await.is_none(), "a closed session reports nothing");
    drop(on);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_not_read_cannot_keep_the_session_open() {
    let dir = tempfile::tempdir().unwrap();
    let ((listen, _reports), tasks) = (listen(dir.path()), rt::Tasks::new());
    let (ours, theirs) = tokio::io::duplex(64);
    let (on, read_on) = watch::channel(true);
    let guest = tasks.spawn(record(theirs, read_on));
    let deadline = Duration::from_secs(5);
    let connected = Agent::connect(Box::new(ours), 7, listen, deadline, &tasks).await;
    let (agent, _) = connected.unwrap();
    on.send_replace(false);
    for n in 0..100 {
        agent.send(&ToGuest::Signal(n)).await.unwrap();
    }
    assert!(matches!(agent.quiesce().await, Err(AgentError::Deadline(_))));
    agent.close().await;
    on.send_replace(true);
    guest.await.unwrap();
}

/// A guest whose messages a test writes.
struct Scripted {
    port: DuplexStream,
    decoder: guest_protocol::frame::Deframer,
}

impl Scripted {
    /// The next payloads of the host.
    async fn payloads(&mut self) -> Vec<Vec<u8>> {
        let (mut buffer, mut payloads) = (vec![0; 1 << 20], Vec::new());
        while payloads.is_empty() {
            let read = self.port.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the host has closed the session");
            self.decoder.feed(&buffer[..read], |payload| payloads.push(payload.to_vec()));
        }
        payloads
    }

    /// The next message of a host of the present version.
    async fn next(&mut self) -> ToGuest {
        use guest_protocol::codec::Message;
        let mut payloads = self.payloads().await;
        assert_eq!(payloads.len(), 1);
        ToGuest::parse(&payloads.remove(0)).unwrap()
    }

    async fn session(&mut self) -> u64 {
        match self.next().await {
            ToGuest::Hello { session, version: HIGHEST, lowest: LOWEST } => session,
            other => panic!("{other:?}"),
        }
    }

    async fn write(&mut self, frame: Vec<u8>) {
        self.port.write_all(&frame).await.unwrap();
    }
}

type Connected = Result<(Arc<Agent>, Welcome), AgentError>;

/// A host that connects, and the guest that it connects to.
fn connect(
    dir: &tempfile::TempDir,
    tasks: &rt::Tasks,
) -> (JoinHandle<Connected>, Scripted, mpsc::Receiver<Report>, Arc<LogStore>) {
    let (listen, reports) = listen(dir.path());
    let (ours, port) = tokio::io::duplex(4 << 20);
    let (logs, spawned) = (listen.logs.clone(), tasks.clone());
    let connected = tasks.spawn(async move {
        Agent::connect(Box::new(ours), 7, listen, Duration::from_secs(5), &spawned).await
    });
    (connected, Scripted { port, decoder: Default::default() }, reports, logs)
}

async fn lines(logs: &LogStore) -> Vec<String> {
    use futures_util::StreamExt;
    let query = wire::logs::LogQuery::default();
    let lines = logs.query(vec!["m".into()], "web", &query).await.unwrap();
    lines.map(|entry| entry.message).collect().await
}

#[tokio::test(start_paused = true)]
async fn a_guest_of_version_2_is_served_with_what_it_knows() {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), rt::Tasks::new());
    let (connected, mut guest, mut reports, logs) = connect(&dir, &tasks);
    let hello: v2::ToGuest = v2::decode(&guest.payloads().await[0]).unwrap();
    let v2::ToGuest::Hello { session, .. } = hello else { panic!("{hello:?}") };
    let (phase, listening) = (v2::Phase::Running(42), vec![]);
    guest.write(v2::encode(&v2::ToHost::Welcome { version: 2, session, phase, listening })).await;
    let (agent, welcome) = connected.await.unwrap().unwrap();
    assert_eq!(welcome.phase, Phase::Running(42));

    guest.write(v2::encode(&v2::ToHost::Log(v2::LogSource::Stdout, b"old\n".to_vec()))).await;
    let start = ExecStart { argv: vec!["id".into()], ..ExecStart::default() };
    let (_input, mut output) = agent.exec(start, None, &tasks);
    // Nothing is sent that it would not understand, such as an acknowledgement.
    let exec: v2::ToGuest = v2::decode(&guest.payloads().await[0]).unwrap();
    let v2::ToGuest::Exec(id, exec) = exec else { panic!("{exec:?}") };
    assert_eq!(exec.argv, ["id"]);
    let exit = v2::Exit { code: 3, signal: 0, oom: false };
    guest.write(v2::encode(&v2::ToHost::ExecExited(id, exit))).await;
    assert_eq!(output.recv().await, Some(ExecOutput::Exited { code: 3, signal: 0 }));
    guest.write(v2::encode(&v2::ToHost::Exited(exit))).await;
    assert!(matches!(reports.recv().await, Some(Report::Exited(Exit { code: 3, .. }))));
    assert_eq!(lines(&logs).await, ["old"]);
}

#[tokio::test(start_paused = true)]
async fn a_guest_of_an_unknown_version_is_distinguished_from_a_slow_one() {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), rt::Tasks::new());
    let (connected, mut guest, ..) = connect(&dir, &tasks);
    let session = guest.session().await;
    let (phase, listening) = (Phase::Preparing, vec![]);
    guest.write(encode(&ToHost::Welcome { version: 4, session, phase, listening })).await;
    assert!(matches!(connected.await.unwrap(), Err(AgentError::Version(4))));

    let (connected, _guest, ..) = connect(&dir, &tasks);
    assert!(matches!(connected.await.unwrap(), Err(AgentError::Deadline(_))));
}

async fn welcomed(connected: JoinHandle<Connected>, guest: &mut Scripted) -> Arc<Agent> {
    let session = guest.session().await;
    let (version, phase, listening) = (HIGHEST, Phase::Running(1), vec![]);
    guest.write(encode(&ToHost::Welcome { version, session, phase, listening })).await;
    connected.await.unwrap().unwrap().0
}

#[tokio::test(start_paused = true)]
async fn a_command_that_does_not_fit_into_a_message_is_refused() {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), rt::Tasks::new());
    let (connected, mut guest, ..) = connect(&dir, &tasks);
    let agent = welcomed(connected, &mut guest).await;
    let argv = vec!["echo".into(), "x".repeat(600 << 10)];
    let (_input, mut output) = agent.exec(ExecStart { argv, ..ExecStart::default() }, None, &tasks);
    let Some(ExecOutput::Failed(ExecError::TooLarge(why))) = output.recv().await else {
        panic!("it was run")
    };
    assert!(why.contains("the most is 262144"), "{why}");
    // The session continues.
    agent.send(&ToGuest::Signal(1)).await.unwrap();
    assert_eq!(guest.next().await, ToGuest::Signal(1));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_the_guest_does_not_end_ends_after_its_timeout() {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), rt::Tasks::new());
    let (connected, mut guest, ..) = connect(&dir, &tasks);
    let agent = welcomed(connected, &mut guest).await;
    let began = tokio::time::Instant::now();
    let start =
        ExecStart { argv: vec!["sleep".into()], timeout_ms: Some(5000), ..ExecStart::default() };
    let (_input, mut output) = agent.exec(start, None, &tasks);
    assert!(matches!(guest.next().await, ToGuest::Exec(1, _)));
    let why = "the guest did not end the command at its timeout";
    let end = ExecOutput::Failed(ExecError::DeadlineExceeded(why.into()));
    assert_eq!(output.recv().await, Some(end));
    assert_eq!(began.elapsed().as_secs(), 15);
    assert_eq!(guest.next().await, ToGuest::ExecSignal(1, 9));
}

#[tokio::test(start_paused = true)]
async fn log_data_that_is_sent_again_is_stored_once_and_acknowledged_by_line() {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), rt::Tasks::new());
    let (connected, mut guest, _reports, logs) = connect(&dir, &tasks);
    let agent = welcomed(connected, &mut guest).await;
    let source = LogSource::Stdout;
    let log = |offset, data: &[u8]| {
        encode(&ToHost::Log { source, offset: Some(offset), data: data.to_vec(), unit: None })
    };
    guest.write(log(0, b"one\ntw")).await;
    assert_eq!(guest.next().await, ToGuest::LogReceived(source, 4, None));
    guest.write(log(4, b"two\n")).await;
    assert_eq!(guest.next().await, ToGuest::LogReceived(source, 8, None));
    guest.write(log(0, b"one\ntwo\nthree\n")).await;
    assert_eq!(guest.next().await, ToGuest::LogReceived(source, 14, None));
    assert_eq!(lines(&logs).await, ["one", "two", "three"]);
    agent.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_floods_is_not_read_for_a_while() {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), rt::Tasks::new());
    let (connected, mut guest, mut reports, _logs) = connect(&dir, &tasks);
    let agent = welcomed(connected, &mut guest).await;
    let began = tokio::time::Instant::now();
    let frame = encode(&ToHost::LogDropped(1));
    for _ in 0..10_000 {
        guest.write(frame.clone()).await;
    }
    guest.write(encode(&ToHost::Exited(Exit::default()))).await;
    assert!(matches!(reports.recv().await, Some(Report::Exited(_))));
    // 4000 at once, then 2000 per second.
    assert_eq!(began.elapsed().as_secs(), 2, "{:?}", began.elapsed());
    agent.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_floods_before_its_answer_is_not_read_for_a_while() {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), rt::Tasks::new());
    let (connected, mut guest, ..) = connect(&dir, &tasks);
    let began = tokio::time::Instant::now();
    let session = guest.session().await;
    let frame = encode(&ToHost::LogDropped(1));
    for _ in 0..8_000 {
        guest.write(frame.clone()).await;
    }
    let (version, phase, listening) = (HIGHEST, Phase::Running(1), vec![]);
    guest.write(encode(&ToHost::Welcome { version, session, phase, listening })).await;
    connected.await.unwrap().unwrap();
    // 4000 at once, then 2000 per second.
    assert_eq!(began.elapsed().as_secs(), 2, "{:?}", began.elapsed());
}
