//! What is believed of a guest.

use super::*;

#[test]
fn only_believable_stages_are_taken() {
    let told = [("port", 1.0), ("evil", 1.0), ("exec", f64::NAN), ("root", f64::INFINITY)];
    let told: Vec<_> = told.map(|(name, ms)| (name.to_owned(), ms)).into();
    assert_eq!(sane(told), [("port".to_owned(), 1.0)]);
    assert!(sane(vec![("port".into(), 1.0); 1000]).len() <= STAGES.len());
}

#[test]
fn ports_are_bounded_and_only_reachable_ones_count() {
    let (ports, _) = watch::channel(Ports::new());
    for port in 1..=u16::MAX {
        note_port(&ports, Listener { port, reachable: port % 2 == 0 }, true);
    }
    assert_eq!(ports.borrow().len(), MOST_PORTS);
    assert!(ports.borrow().iter().all(|port| port % 2 == 0));
}

/// A guest of one session: it answers the greeting, and gives what it was told.
async fn told(mut port: tokio::io::DuplexStream, read_on: watch::Receiver<bool>) -> Vec<ToGuest> {
    use tokio::io::AsyncWriteExt;
    let (mut decoder, mut buffer, mut told) = (Decoder::default(), vec![0; 1024], Vec::new());
    let mut read_on = read_on;
    while let Ok(read @ 1..) = port.read(&mut buffer).await {
        let mut messages = Vec::new();
        decoder.feed(&buffer[..read], |message: ToGuest| messages.push(message));
        for message in messages {
            if let ToGuest::Hello { version, session } = message {
                let phase = Phase::Running(1);
                let welcome = ToHost::Welcome { version, session, phase, listening: Vec::new() };
                port.write_all(&guest_protocol::codec::encode(&welcome)).await.unwrap();
            } else {
                told.push(message);
            }
        }
        read_on.wait_for(|on| *on).await.unwrap();
    }
    told
}

fn listen(logs: &std::path::Path) -> (Listen, mpsc::Receiver<Report>) {
    let dir = camino::Utf8Path::from_path(logs).unwrap().to_owned();
    let logs = LogStore::open(dir, "here".into(), rt::Clock::system(), rt::FailureHandler::abort())
        .unwrap();
    let (reports, reported) = mpsc::channel(8);
    let listen = Listen {
        app: "web".into(),
        machine: "m".into(),
        logs: Arc::new(logs),
        reports,
        ports: watch::channel(Ports::new()).0,
        api: ApiFor {
            machine: model::id::MachineId::new(model::id::HostId(1), 1),
            app: "web".into(),
            handler: None,
        },
    };
    (listen, reported)
}

#[tokio::test(start_paused = true)]
async fn a_hush_writes_what_was_said_and_lets_nothing_follow() {
    let dir = tempfile::tempdir().unwrap();
    let ((listen, mut reports), tasks) = (listen(dir.path()), rt::Tasks::new());
    let (ours, theirs) = tokio::io::duplex(64);
    let (on, read_on) = watch::channel(true);
    let guest = tasks.spawn(told(theirs, read_on));
    let deadline = Duration::from_secs(5);
    let connected = Agent::connect(Box::new(ours), 7, listen, deadline, &tasks).await;
    let (agent, _) = connected.unwrap();
    let (_input, mut output) =
        agent.exec(ExecStart { argv: vec!["top".into()], ..ExecStart::default() }, &tasks);
    for n in 0..20 {
        agent.say(&ToGuest::Signal(n)).await.unwrap();
    }
    agent.hush().await.unwrap();
    assert!(agent.say(&ToGuest::PowerOff).await.is_err());
    let end = output.recv().await.unwrap();
    assert_eq!(end, ExecOutput::Failed("the machine is being suspended".into()));
    agent.close().await;
    let told = guest.await.unwrap();
    let signals = told.iter().filter(|message| matches!(message, ToGuest::Signal(_)));
    assert_eq!(signals.count(), 20);
    assert!(!told.contains(&ToGuest::PowerOff));
    assert!(reports.recv().await.is_none(), "a session that was closed says nothing more");
    drop(on);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_not_read_keeps_nobody_from_ending_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let ((listen, _reports), tasks) = (listen(dir.path()), rt::Tasks::new());
    let (ours, theirs) = tokio::io::duplex(64);
    let (on, read_on) = watch::channel(true);
    let guest = tasks.spawn(told(theirs, read_on));
    let deadline = Duration::from_secs(5);
    let connected = Agent::connect(Box::new(ours), 7, listen, deadline, &tasks).await;
    let (agent, _) = connected.unwrap();
    on.send_replace(false);
    for n in 0..100 {
        agent.say(&ToGuest::Signal(n)).await.unwrap();
    }
    assert!(matches!(agent.hush().await, Err(AgentError::Deadline(_))));
    agent.close().await;
    on.send_replace(true);
    guest.await.unwrap();
}
