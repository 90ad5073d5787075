//! Apps in guests, as their host reaches them: each port does what the test sets.

use async_trait::async_trait;
use host_api::GuestStream;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use worker::ports::GuestConnector;

/// What a port does with a connection.
#[derive(Clone, Debug)]
pub(crate) enum App {
    /// It answers each request with these bytes and closes.
    Answers(String),
    /// It accepts and answers nothing.
    Hangs,
    /// It sends a head and then a body without end.
    Floods,
}

impl App {
    /// An HTTP answer.
    pub(crate) fn http(status: &str, body: &str) -> Self {
        let length = body.len();
        Self::Answers(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}"))
    }
}

/// The apps of all machines of a host; a port that is not set refuses. Clones share state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Apps(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    ports: BTreeMap<u16, App>,
    connects: usize,
    requests: Vec<String>,
    tasks: rt::Tasks,
}

impl Apps {
    pub(crate) fn set(&self, port: u16, app: App) {
        self.0.lock().unwrap().ports.insert(port, app);
    }

    pub(crate) fn unset(&self, port: u16) {
        self.0.lock().unwrap().ports.remove(&port);
    }

    /// Connections that were tried so far.
    pub(crate) fn connects(&self) -> usize {
        self.0.lock().unwrap().connects
    }

    /// The newest request that was read.
    pub(crate) fn newest_request(&self) -> String {
        self.0.lock().unwrap().requests.last().cloned().unwrap_or_default()
    }
}

#[async_trait]
impl GuestConnector for Apps {
    async fn connect(&self, to: SocketAddrV4) -> io::Result<Box<dyn GuestStream>> {
        let (app, tasks) = {
            let mut state = self.0.lock().unwrap();
            state.connects += 1;
            let app = state.ports.get(&to.port()).cloned();
            (app.ok_or(io::ErrorKind::ConnectionRefused)?, state.tasks.clone())
        };
        let (near, far) = tokio::io::duplex(16 << 10);
        tasks.spawn(serve(self.clone(), app, far));
        Ok(Box::new(near))
    }
}

/// The client may leave at any time.
async fn serve(apps: Apps, app: App, mut stream: DuplexStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    apps.0.lock().unwrap().requests.push(String::from_utf8(request).unwrap());
    match app {
        App::Answers(bytes) => drop(stream.write_all(bytes.as_bytes()).await),
        App::Hangs => drop(stream.read_u8().await),
        App::Floods => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
        }
    }
}
