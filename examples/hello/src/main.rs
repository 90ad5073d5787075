//! A small web app to run as a machine: one static binary, no dependencies.
//!
//! `GET /` greets and says which machine answers and how often it has; any
//! other path is answered with 404. The port is 8080, or `$PORT`.

use std::env;
use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

static REQUESTS: AtomicU64 = AtomicU64::new(0);

fn main() -> Result<()> {
    let port = variable("PORT", "8080");
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    println!("hello listens on port {port}");
    for stream in listener.incoming() {
        let stream = stream?;
        // A client that breaks off is its own loss.
        thread::spawn(move || serve(stream).ok());
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "an app is told by its environment")]
fn variable(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.into())
}

/// Answers requests on one connection until the client closes it.
fn serve(stream: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut header = String::from("-");
        while !header.trim_end().is_empty() {
            header.clear();
            reader.read_line(&mut header)?;
        }
        let (status, body) = answer(request.split(' ').nth(1).unwrap_or("/"));
        write!(
            writer,
            "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        writer.flush()?;
    }
}

fn answer(path: &str) -> (&'static str, String) {
    if path != "/" {
        return ("404 Not Found", format!("there is no {path}\n"));
    }
    let count = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
    let machine = variable("FLY_MACHINE_ID", "no machine");
    let region = variable("FLY_REGION", "nowhere");
    ("200 OK", format!("Hello from {machine} in {region}: request {count}\n"))
}
