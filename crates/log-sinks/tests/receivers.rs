//! Each sink against a receiver that parses what it gets, and misbehaves.

#![allow(clippy::unwrap_used, reason = "a failed test is to panic")]

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use rt::Tasks;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpListener;
use wire::logs::LogEntry;
use worker::ports::{ExportedLine, LogSink, SendError, Taken};

fn line(n: i64, message: &str) -> ExportedLine {
    let entry = LogEntry {
        offset: n as u64,
        provider: "app".into(),
        level: if n % 2 == 0 { "error" } else { "info" }.into(),
        instance: "3d8d413b29d089".into(),
        region: "here".into(),
        message: message.into(),
        meta: BTreeMap::new(),
        ..LogEntry::position(1_795_219_705_000_000_000 + n)
    };
    ExportedLine { entry, app: "web".into() }
}

fn sink(settings: &str) -> Arc<dyn LogSink> {
    let parsed = log_sinks::parse(&format!("[[sink]]\nname = \"s\"\n{settings}")).unwrap();
    log_sinks::open(&parsed, "host-1").unwrap().remove(0)
}

/// A server that answers as it is scripted, and then with success.
#[derive(Clone, Default)]
struct Server {
    answers: Arc<Mutex<VecDeque<(StatusCode, &'static str)>>>,
    bodies: Arc<Mutex<Vec<Value>>>,
    headers: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Server {
    async fn start(&self, tasks: &Tasks) -> String {
        let answer = async |State(own): State<Self>, headers: HeaderMap, body: Bytes| {
            let (status, text) =
                own.answers.lock().unwrap().pop_front().unwrap_or((StatusCode::NO_CONTENT, ""));
            if status.is_success() {
                own.bodies.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                own.headers.lock().unwrap().push(headers);
            }
            (status, text)
        };
        let routes = Router::new().route("/push", post(answer)).with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/push", listener.local_addr().unwrap());
        tasks.spawn_until_stop(async move { axum::serve(listener, routes).await.unwrap() });
        url
    }

    fn will(&self, status: StatusCode, text: &'static str) {
        self.answers.lock().unwrap().push_back((status, text));
    }
}

#[tokio::test]
async fn loki_gets_streams_of_lines_with_labels() {
    let (tasks, server) = (Tasks::new(), Server::default());
    let url = server.start(&tasks).await;
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    let write = |text: &str, mode| {
        std::fs::write(&secret, text).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write("Bearer one\n", 0o600);
    let loki = sink(&format!(
        "type = \"loki\"\nurl = \"{url}\"\nauthorization_file = {secret:?}\n\
         headers = {{ X-Scope-OrgID = \"tenant\" }}\n\
         labels = [\"app\", \"level\", \"container\"]\nextra_labels = {{ env = \"prod\" }}"
    ));
    let lines = [line(1, "one"), line(2, "two"), line(3, "th\"ree\n")];
    loki.send(&lines).await.unwrap();
    let stream = |level: &str, values: Value| json!({ "stream": { "app": "web", "env": "prod", "level": level }, "values": values });
    let expected = json!({ "streams": [
        stream("error", json!([["1795219705000000002", "two"]])),
        stream("info", json!([
            ["1795219705000000001", "one"],
            ["1795219705000000003", "th\"ree\n"],
        ])),
    ] });
    assert_eq!(server.bodies.lock().unwrap()[0], expected);
    let headers = server.headers.lock().unwrap()[0].clone();
    assert_eq!(headers["authorization"], "Bearer one");
    assert_eq!(headers["x-scope-orgid"], "tenant");
    // A new secret is used at once; one that everyone can read is not.
    write("Bearer two", 0o600);
    loki.send(&lines).await.unwrap();
    assert_eq!(server.headers.lock().unwrap()[1]["authorization"], "Bearer two");
    write("Bearer three", 0o644);
    let refused = loki.send(&lines).await.unwrap_err();
    let why = rt::chain(&refused);
    assert!(matches!(refused, SendError::Unavailable(_)) && why.contains("chmod o="), "{why}");
    assert!(!why.contains("three"), "{why}");
    tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn only_answers_that_time_cannot_mend_are_final() {
    let (tasks, server) = (Tasks::new(), Server::default());
    let url = server.start(&tasks).await;
    let loki = sink(&format!("type = \"loki\"\nurl = \"{url}?key=s3cret\""));
    for (status, is_final) in [
        (400, true),
        (413, true),
        (422, true),
        (401, false),
        (404, false),
        (429, false),
        (503, false),
    ] {
        server.will(StatusCode::from_u16(status).unwrap(), "entry too far behind");
        let err = loki.send(&[line(1, "x")]).await.unwrap_err();
        assert_eq!(matches!(err, SendError::Refused(_)), is_final, "{status}");
        let why = rt::chain(&err);
        assert!(why.contains(&status.to_string()) && why.contains("too far behind"), "{why}");
    }
    assert!(loki.send(&[line(1, "x")]).await.is_ok());
    tasks.shutdown(Duration::from_secs(5)).await;
    // Now nothing listens there.
    let err = loki.send(&[line(1, "x")]).await.unwrap_err();
    let why = rt::chain(&err);
    assert!(matches!(err, SendError::Unavailable(_)) && !why.contains("s3cret"), "{why}");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/push", listener.local_addr().unwrap());
    let loki = sink(&format!("type = \"loki\"\nurl = \"{url}\""));
    let cut = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = [0; 16];
        stream.read_exact(&mut read).await.unwrap();
    };
    let lines = [line(1, "x")];
    let (sent, ()) = tokio::join!(loki.send(&lines), cut);
    assert!(matches!(sent, Err(SendError::Unavailable(_))), "{sent:?}");
}

#[tokio::test]
async fn otlp_gets_records_by_resource() {
    let (tasks, server) = (Tasks::new(), Server::default());
    let url = server.start(&tasks).await;
    let otlp = sink(&format!("type = \"otlp\"\nurl = \"{url}\"\nextra_labels = {{ env = \"x\" }}"));
    server.will(StatusCode::OK, r#"{"partialSuccess":{"rejectedLogRecords":"1"}}"#);
    let about_app = {
        let mut line = line(3, "no machine");
        line.entry.instance = String::new();
        line
    };
    let taken = otlp.send(&[line(1, "one"), line(2, "two"), about_app]).await.unwrap();
    assert_eq!(taken, Taken { refused: 1 });
    let body = server.bodies.lock().unwrap()[0].clone();
    let resources = body["resourceLogs"].as_array().unwrap();
    assert_eq!(resources.len(), 2, "{body}");
    let of = |list: &Value, key: &str| {
        let list = list.as_array().unwrap();
        let found = list.iter().find(|attribute| attribute["key"] == key);
        found.map_or(Value::Null, |found| found["value"]["stringValue"].clone())
    };
    let machine = resources
        .iter()
        .find(|resource| {
            of(&resource["resource"]["attributes"], "service.instance.id") != Value::Null
        })
        .unwrap();
    let attributes = &machine["resource"]["attributes"];
    assert_eq!(
        ["service.name", "host.name", "cloud.region"].map(|key| of(attributes, key)),
        ["web", "host-1", "here"]
    );
    let records = machine["scopeLogs"][0]["logRecords"].as_array().unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[1]["body"], json!({ "stringValue": "two" }));
    assert_eq!(records[1]["timeUnixNano"], "1795219705000000002");
    assert_eq!(
        (&records[1]["severityNumber"], &records[1]["severityText"]),
        (&json!(17), &json!("error"))
    );
    assert_eq!(of(&records[0]["attributes"], "provider"), "app");
    assert_eq!(of(&records[0]["attributes"], "env"), "x");
    tasks.shutdown(Duration::from_secs(5)).await;
}

/// Texts of the messages in a stream of frames with octet counting, and the stream: a receiver
/// that closed it at once might not have read them.
async fn frames<S: AsyncRead + Unpin>(mut stream: S, count: usize) -> (S, Vec<String>) {
    let mut texts = Vec::new();
    while texts.len() < count {
        let mut length = 0;
        loop {
            let byte = stream.read_u8().await.expect("a frame follows");
            if byte == b' ' {
                break;
            }
            assert!(byte.is_ascii_digit(), "{byte}");
            length = length * 10 + usize::from(byte - b'0');
        }
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await.expect("the frame is whole");
        let message = String::from_utf8(message).unwrap();
        let (head, text) = message.split_once("] ").unwrap();
        assert!(head.starts_with("<14>1 2026-") || head.starts_with("<11>1 2026-"), "{head}");
        assert!(head.contains(" host-1 web 3d8d413b29d089 app [updraft@32473 "), "{head}");
        texts.push(text.to_owned());
    }
    (stream, texts)
}

async fn syslog() -> (TcpListener, Arc<dyn LogSink>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, sink(&format!("type = \"syslog\"\naddress = \"tcp://{address}\"")))
}

#[tokio::test]
async fn syslog_gets_whole_messages_over_one_connection() {
    let (listener, syslog) = syslog().await;
    let send = async {
        syslog.send(&[line(1, "one"), line(2, "caf\u{e9}")]).await.unwrap();
        syslog.send(&[line(3, "")]).await.unwrap();
    };
    let receive = async {
        let (stream, _) = listener.accept().await.unwrap();
        frames(stream, 3).await
    };
    let ((), (_open, texts)) = tokio::join!(send, receive);
    assert_eq!(texts, ["one", "caf\u{e9}", ""]);
}

#[tokio::test]
async fn what_a_receiver_of_syslog_has_not_read_is_sent_again() {
    let (listener, syslog) = syslog().await;
    syslog.send(&[line(1, "one")]).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    // It ends with the message unread.
    drop(stream);
    let send = async {
        // The kernel may report the end with a failure of this delivery, which is repeated then.
        while syslog.send(&[line(2, "two")]).await.is_err() {}
    };
    let receive = async {
        let (stream, _) = listener.accept().await.unwrap();
        frames(stream, 2).await
    };
    let ((), (open, texts)) = tokio::join!(send, receive);
    assert_eq!(texts, ["one", "two"]);
    // Nothing listens: a failure, and the lines are not lost.
    drop((open, listener));
    let failed = tokio::time::timeout(Duration::from_secs(20), async {
        while syslog.send(&[line(3, "three")]).await.is_ok() {}
    });
    failed.await.expect("it fails");
}

#[tokio::test]
async fn a_receiver_of_syslog_that_reads_nothing_is_not_taken_for_one_that_has_read() {
    let (listener, syslog) = syslog().await;
    // More than both kernels hold.
    let long = "x".repeat(1 << 20);
    let lines: Vec<_> = (0..32).map(|n| line(n, &long)).collect();
    let stalled = tokio::time::timeout(Duration::from_millis(300), syslog.send(&lines)).await;
    assert!(stalled.is_err(), "{stalled:?}");
    let (first, _) = listener.accept().await.unwrap();
    drop(first);
    let receive = async {
        let (stream, _) = listener.accept().await.unwrap();
        frames(stream, 32).await
    };
    let (sent, (_open, texts)) = tokio::join!(syslog.send(&lines), receive);
    assert_eq!((sent.unwrap(), texts.len()), (Taken::default(), 32));
}

#[tokio::test]
async fn syslog_over_tls_trusts_the_certificates_of_its_file_only() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tls://localhost:{}", listener.local_addr().unwrap().port());
    let trusting = sink(&format!("type = \"syslog\"\naddress = {address:?}\nca_file = {ca:?}"));
    let receive = async {
        let (stream, _) = listener.accept().await.unwrap();
        frames(acceptor.accept(stream).await.unwrap(), 1).await
    };
    let lines = [line(1, "one")];
    let (sent, (_open, texts)) = tokio::join!(trusting.send(&lines), receive);
    assert_eq!((sent.unwrap(), texts), (Taken::default(), vec!["one".to_owned()]));
    let other = sink(&format!("type = \"syslog\"\naddress = {address:?}"));
    let refuse = async {
        let (stream, _) = listener.accept().await.unwrap();
        assert!(acceptor.accept(stream).await.is_err());
    };
    let (sent, ()) = tokio::join!(other.send(&lines), refuse);
    assert!(rt::chain(&sent.unwrap_err()).contains("certificate"));
}
