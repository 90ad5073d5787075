//! The machine's OpenID Connect token in a file, for programs that assume a role of
//! another cloud with it (<https://fly.io/docs/security/openid-connect/>).
//!
//! A thread asks the Machines API for a token over the guest's own socket, as any
//! process could, and replaces the file before the token expires.

use super::notifier::{Notifier, WorkerEvent};
use crate::boot::mounts;
use guest_protocol::OIDC_TOKEN_FILE;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Time between two tokens: half of the ten minutes for which one is valid.
const RENEWAL: Duration = Duration::from_secs(300);
/// Time between two attempts while there is no answer.
const RETRY: Duration = Duration::from_secs(10);
/// Longest wait for the API to take the request or to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer that is read: a token has about 1500 bytes.
const MAX_ANSWER: u64 = 16 * 1024;

/// The thread that keeps the file. Dropping it ends the thread after its next token.
pub(crate) struct OidcToken(Sender<()>);

impl OidcToken {
    /// Starts the thread. The first attempt is reported as [`WorkerEvent::OidcToken`];
    /// later ones are only if the result differs from the one before.
    pub(crate) fn keep(notifier: &Notifier, audience: String) -> std::io::Result<Self> {
        let (renew, asked) = channel();
        notifier.spawn_worker("oidc", move |notifier| {
            let report = |result| notifier.notify(WorkerEvent::OidcToken(result));
            run(&asked, report, || renewed(&audience));
        })?;
        Ok(Self(renew))
    }

    /// Renews the token at once: the guest was suspended, maybe for longer than it is valid.
    pub(crate) fn renew(&self) {
        let _ = self.0.send(());
    }
}

/// Renews until its [`OidcToken`] is dropped.
fn run(
    asked: &Receiver<()>,
    report: impl Fn(Result<(), String>),
    mut renew: impl FnMut() -> Result<(), String>,
) {
    let mut before = None;
    loop {
        let result = renew();
        let pause = if result.is_ok() { RENEWAL } else { RETRY };
        if before.as_ref() != Some(&result) {
            report(result.clone());
            before = Some(result);
        }
        if asked.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

fn renewed(audience: &str) -> Result<(), String> {
    let token = request(&format!("{}/api", mounts::FLY), audience)?;
    let cannot = |err: std::io::Error| format!("cannot write {OIDC_TOKEN_FILE}: {err}");
    replace(Path::new(OIDC_TOKEN_FILE), &token).map_err(cannot)
}

/// Asks for a token.
fn request(socket: &str, audience: &str) -> Result<String, String> {
    let cannot = |err: std::io::Error| format!("cannot ask the Machines API for a token: {err}");
    let exchange = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.write_all(head_and_body(audience).as_bytes())?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
        Ok(answer)
    };
    token(&exchange().map_err(cannot)?)
}

fn head_and_body(audience: &str) -> String {
    let quoted: String = audience.chars().filter(|c| !matches!(c, '"' | '\\')).collect();
    let body = format!("{{\"aud\":\"{quoted}\"}}");
    format!(
        "POST /v1/tokens/oidc HTTP/1.1\r\nhost: _api.internal\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The token in an answer: three parts in base64url (RFC 7519).
fn token(answer: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        let why: String = body.chars().filter(|c| !c.is_control()).take(200).collect();
        let status = if status.is_empty() { "no answer" } else { status };
        return Err(format!("the Machines API gives no token: {status} {why}").trim_end().into());
    }
    let body = body.trim();
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    match body.split('.').collect::<Vec<_>>()[..] {
        [head, claims, signature] if [head, claims, signature].into_iter().all(plain) => {
            Ok(body.to_owned())
        }
        _ => Err("the Machines API gives no token: its answer is none".into()),
    }
}

/// Readers see the former file or the new one, whole. Every process of the guest may read
/// it, as each may ask for a token itself.
fn replace(path: &Path, token: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o644).open(&new)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.write_all(token.as_bytes())?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_token_of_an_answer_is_checked() {
        let ok = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n";
        assert_eq!(token(format!("{ok}aA0.b-_.c\n").as_bytes()), Ok("aA0.b-_.c".into()));
        for (answer, why) in [
            ("", "no answer"),
            ("HTTP/1.1 200 OK\r\n\r\n", "its answer is none"),
            ("HTTP/1.1 200 OK\r\n\r\na.b", "its answer is none"),
            ("HTTP/1.1 200 OK\r\n\r\na.b.", "its answer is none"),
            ("HTTP/1.1 200 OK\r\n\r\na.<b>.c", "its answer is none"),
            (
                "HTTP/1.1 501 Not Implemented\r\n\r\n{\"error\":\"keys\"}",
                "501 Not Implemented {\"error",
            ),
        ] {
            let err = token(answer.as_bytes()).unwrap_err();
            assert!(err.contains(why) && !err.contains('\n'), "{answer:?}: {err}");
        }
    }

    #[test]
    fn a_token_is_asked_for_and_replaces_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, file) = (dir.path().join("api"), dir.path().join("token"));
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut asked = vec![0; 4096];
            let mut n = 0;
            while !asked[..n].ends_with(b"\"}") {
                n += client.read(&mut asked[n..]).unwrap();
            }
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\na.b.c").unwrap();
            String::from_utf8(asked[..n].to_vec()).unwrap()
        });
        let token = request(socket.to_str().unwrap(), "sts.amazonaws.com").unwrap();
        let asked = server.join().unwrap();
        assert!(asked.starts_with("POST /v1/tokens/oidc HTTP/1.1\r\n"), "{asked}");
        assert!(
            asked.ends_with(
                "content-length: 27\r\nconnection: close\r\n\r\n{\"aud\":\"sts.amazonaws.com\"}"
            ),
            "{asked}"
        );
        std::fs::write(&file, "a former token that is longer").unwrap();
        replace(&file, &token).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "a.b.c");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        let absent = request(dir.path().join("none").to_str().unwrap(), "a").unwrap_err();
        assert!(absent.starts_with("cannot ask the Machines API for a token: "), "{absent}");
    }

    #[test]
    fn a_change_of_the_result_is_reported_once() {
        let (renew, asked) = channel();
        let mut renew = Some(renew);
        let mut left = vec![Ok(()), Err("one".to_owned()), Err("one".to_owned()), Ok(()), Ok(())];
        let next = || {
            // The next one is due at once; after the last one none can be.
            match &renew {
                Some(renew) if left.len() > 1 => renew.send(()).unwrap(),
                _ => renew = None,
            }
            left.pop().unwrap()
        };
        let reports: RefCell<Vec<Result<(), String>>> = RefCell::default();
        run(&asked, |result| reports.borrow_mut().push(result), next);
        assert_eq!(*reports.borrow(), [Ok(()), Err("one".to_owned()), Ok(())]);
    }
}
