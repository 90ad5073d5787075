//! Runs of health checks that use the network: each on a thread of its own, since any
//! step of them may take as long as the check's timeout.

use crate::agent::notifier::{Notifier, Probed, WorkerEvent};
use guest_protocol::{Probe, UnitCheck};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of an answer that are read for its status.
const MAX_HEAD: usize = 4096;

/// Runs a check over the network in the background.
pub(super) fn start(notifier: &Notifier, check: &UnitCheck, probed: Probed) -> Result<(), String> {
    let (probe, timeout) = (check.probe.clone(), Duration::from_millis(check.timeout_ms));
    let work = move |notifier: Notifier| {
        let result = run(&probe, Instant::now() + timeout);
        notifier.notify(WorkerEvent::Probed(Probed { result, ..probed }));
    };
    notifier.spawn_worker("check", work).map_err(|err| format!("cannot start a thread: {err}"))
}

fn run(probe: &Probe, deadline: Instant) -> Result<(), String> {
    match probe {
        Probe::Tcp(port) => connect(*port, deadline).map(drop),
        Probe::Http { port, method, path, headers } => {
            let status = request(*port, method, path, headers, deadline)?;
            match status {
                200..400 => Ok(()),
                _ => Err(format!("HTTP status {status}")),
            }
        }
        // Started by the event loop: only its thread starts processes.
        Probe::Exec(_) => Err("not a check over the network".into()),
    }
}

fn left(deadline: Instant) -> Result<Duration, String> {
    let left = deadline.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left).ok_or_else(|| "timed out".into())
}

fn connect(port: u16, deadline: Instant) -> Result<TcpStream, String> {
    let mut problem = String::new();
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let address = SocketAddr::new(address, port);
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(err) if problem.is_empty() => problem = format!("connect to port {port}: {err}"),
            Err(_) => {}
        }
    }
    Err(problem)
}

/// Sends a request and reads the status of the answer.
fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    deadline: Instant,
) -> Result<u16, String> {
    let mut stream = connect(port, deadline)?;
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("Host: localhost:{port}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("User-Agent: updraft-check\r\nConnection: close\r\n\r\n");
    let failed = |err: std::io::Error| match err.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "timed out".to_owned(),
        _ => format!("HTTP on port {port}: {err}"),
    };
    let timeouts = |stream: &TcpStream| -> Result<(), String> {
        let left = left(deadline)?;
        let set = stream.set_read_timeout(Some(left));
        set.and_then(|()| stream.set_write_timeout(Some(left))).map_err(failed)
    };
    timeouts(&stream)?;
    stream.write_all(text.as_bytes()).map_err(failed)?;
    let (mut head, mut buffer) = (Vec::new(), [0; 512]);
    while !head.contains(&b'\n') && head.len() < MAX_HEAD {
        timeouts(&stream)?;
        match stream.read(&mut buffer).map_err(failed)? {
            0 => break,
            read => head.extend_from_slice(&buffer[..read]),
        }
    }
    status(&head).ok_or_else(|| format!("the answer of port {port} is not HTTP"))
}

/// The status in the first line of an answer.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|&byte| byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?;
    line.split(' ').nth(1)?.trim().parse().ok().filter(|status| (100..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// The result of a probe of a server that answers so.
    fn answered(answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = client.read(&mut request).unwrap();
            client.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let headers = vec![("X-Check".into(), "1".into())];
        let (method, path) = ("GET".into(), "/up?x".into());
        let probe = Probe::Http { port, method, path, headers };
        let result = run(&probe, Instant::now() + Duration::from_secs(10));
        let request = server.join().unwrap();
        let want = format!("GET /up?x HTTP/1.1\r\nHost: localhost:{port}\r\nX-Check: 1\r\n");
        assert!(request.starts_with(&want), "{request}");
        result
    }

    #[test]
    fn the_status_decides() {
        assert_eq!(answered("HTTP/1.1 204 No Content\r\n\r\n"), Ok(()));
        assert_eq!(answered("HTTP/1.0 302 Found\r\n\r\n"), Ok(()));
        assert_eq!(answered("HTTP/1.1 503 Busy\r\n\r\n"), Err("HTTP status 503".into()));
        assert!(answered("SSH-2.0-x\r\n").unwrap_err().ends_with("is not HTTP"));
        assert!(answered("").unwrap_err().ends_with("is not HTTP"));
    }

    #[test]
    fn a_port_that_does_not_listen_and_one_that_is_silent_fail_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let soon = || Instant::now() + Duration::from_millis(50);
        assert_eq!(run(&Probe::Tcp(port), soon()), Ok(()));
        let (method, path) = ("GET".into(), "/".into());
        let silent = Probe::Http { port, method, path, headers: vec![] };
        assert_eq!(run(&silent, soon()), Err("timed out".into()));
        drop(listener);
        let refused = run(&Probe::Tcp(port), Instant::now() + Duration::from_secs(5));
        assert!(refused.unwrap_err().starts_with(&format!("connect to port {port}: ")));
    }
}
