//! A small web app to run as a machine: one static binary, no dependencies.
//!
//! `GET /` greets and shows which machine answers and how often it has; any
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

#[expect(clippy::disallowed_methods, reason = "an app is configured by its environment")]
fn variable(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.into())
}

/// Answers requests on one connection until the client closes it.
fn serve(stream: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    // Each answer goes out at once and in one piece: the end of one that waits
    // for the client's acknowledgement of its start comes 40 ms late.
    writer.set_nodelay(true)?;
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
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}");
        writer.write_all(format!("{head}\r\n\r\n{body}").as_bytes())?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn an_answer_is_one_segment_sent_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let seen = server.try_clone().unwrap();
        let served = thread::spawn(move || serve(server));
        let mut buffer = [0; 4096];
        for path in ["/", "/no", "/"] {
            client.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
            let n = client.read(&mut buffer).unwrap();
            let (head, body) =
                str::from_utf8(&buffer[..n]).unwrap().split_once("\r\n\r\n").unwrap();
            assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}");
            assert_eq!(head.starts_with("HTTP/1.1 200"), path == "/");
        }
        assert!(seen.nodelay().unwrap());
        client.shutdown(std::net::Shutdown::Write).unwrap();
        served.join().unwrap().unwrap();
    }
}
