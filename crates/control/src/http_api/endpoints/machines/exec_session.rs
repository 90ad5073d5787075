//! A command's session over a WebSocket: input, output, and finding out that the
//! client is gone. The side that ends first ends both; the end of the session kills the
//! command.
//!
//! The client is read from all the time, so that its leaving is noticed, also when
//! the command does not read its input: what it has not taken waits in a bounded
//! queue. Once that is full the client is not read from; then it is the pings that
//! cannot be delivered any more that reveal it. A client that can be read from and does
//! not answer pings is gone, too.

use crate::http_api::answer::error_body;
use crate::{Error, Kind, exec};
use axum::extract::ws::Message;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use host_api::{ExecInput, ExecOutput, ExecSession, ExecStart};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use wire::exec::{ExecControl, ExecEnd, STDERR, STDOUT};

/// The deadline for a client to send the command.
const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time a client has to receive the end and close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const PING_EVERY: Duration = Duration::from_secs(15);
/// Silence after which a client that is being pinged is gone.
const MAX_SILENCE: Duration = Duration::from_secs(60);
/// Bytes of input that wait for the command.
const MAX_QUEUED: usize = 1024 * 1024;

pub(super) async fn first_message<R, E>(from_client: &mut R) -> Result<ExecStart, Error>
where
    R: Stream<Item = Result<Message, E>> + Unpin,
{
    let invalid = |why: String| Error::new(Kind::Invalid, why);
    let first = timeout(FIRST_MESSAGE_TIMEOUT, from_client.next()).await;
    let Ok(Some(Ok(Message::Text(text)))) = first else {
        return Err(invalid("the first message must be a text with the command to run".into()));
    };
    let start: ExecStart =
        serde_json::from_str(&text).map_err(|err| invalid(format!("the first message: {err}")))?;
    exec::check(&start)?;
    Ok(start)
}

/// Proxies both directions until the command ends or the client leaves, or until `ended`: then
/// the token that permitted the session is not valid any more.
pub(super) async fn proxy_session<W, R, E>(
    session: ExecSession,
    to_client: W,
    mut from_client: R,
    ended: impl Future<Output = ()> + Unpin,
) where
    W: Sink<Message, Error = E> + Unpin,
    R: Stream<Item = Result<Message, E>> + Unpin,
{
    let ExecSession { input, output } = session;
    let client = Liveness::new();
    tokio::select! {
        // Output first: after the command's end its input no longer matters.
        biased;
        () = send_output(output, to_client, &client, ended) => {}
        () = recv_input(input, &mut from_client, &client) => return,
    }
    // Input left unread would reset the connection before the client has read the
    // last message.
    let rest = async { while let Some(Ok(_)) = from_client.next().await {} };
    drop(timeout(CLOSE_TIMEOUT, rest).await);
}

/// When the client last sent something, and whether it is being read from.
struct Liveness(Mutex<(Instant, bool)>);

impl Liveness {
    fn new() -> Self {
        Self(Mutex::new((Instant::now(), true)))
    }

    fn set(&self, received: bool, reading: bool) {
        let mut state = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // While it is not read from, its answers wait unseen.
        if received || !reading || !state.1 {
            state.0 = Instant::now();
        }
        state.1 = reading;
    }

    fn is_gone(&self) -> bool {
        let (received_at, reading) =
            *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        reading && received_at.elapsed() > MAX_SILENCE
    }
}

async fn send_output<W, E>(
    mut output: mpsc::Receiver<ExecOutput>,
    mut to: W,
    client: &Liveness,
    mut ended: impl Future<Output = ()> + Unpin,
) where
    W: Sink<Message, Error = E> + Unpin,
{
    let tagged = |tag: u8, data: &[u8]| Message::Binary([&[tag], data].concat().into());
    let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = tokio::select! {
            biased;
            // A command that writes all the time does not outlive the token.
            () = &mut ended => Some(Err(token_ended())),
            next = output.recv() => next.map(Ok),
            _ = pings.tick() => {
                if client.is_gone() || to.send(Message::Ping(bytes::Bytes::new())).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let (message, last) = match next {
            Some(Ok(ExecOutput::Stdout(data))) => (tagged(STDOUT, &data), false),
            Some(Ok(ExecOutput::Stderr(data))) => (tagged(STDERR, &data), false),
            Some(Ok(ExecOutput::Exited { code, signal })) => {
                (end(&ExecEnd::Exited { code, signal }), true)
            }
            Some(Ok(ExecOutput::Failed(err))) => {
                (end(&ExecEnd::Failed(error_body(err.into()))), true)
            }
            Some(Err(err)) => (end(&ExecEnd::Failed(error_body(err))), true),
            None => (end(&ExecEnd::Failed(error_body(exec::broken_off()))), true),
        };
        if to.send(message).await.is_err() {
            return;
        }
        if last {
            drop(to.close().await);
            return;
        }
    }
}

fn token_ended() -> Error {
    Error::new(Kind::Unauthorized, "unauthorized: the token has expired or been revoked")
}

/// Reads from the client and forwards to the command, both at once. Returns when
/// the client leaves.
async fn recv_input<R, E>(input: mpsc::Sender<ExecInput>, from: &mut R, client: &Liveness)
where
    R: Stream<Item = Result<Message, E>> + Unpin,
{
    let mut queue: VecDeque<ExecInput> = VecDeque::new();
    let mut queued = 0;
    // A command that has closed its input gets no more; its output continues.
    let mut open = true;
    loop {
        let reading = queued < MAX_QUEUED;
        client.set(false, reading);
        tokio::select! {
            permit = input.reserve(), if open && !queue.is_empty() => match permit {
                Ok(permit) => {
                    if let Some(next) = queue.pop_front() {
                        queued -= size(&next);
                        permit.send(next);
                    }
                }
                Err(_) => {
                    (open, queued) = (false, 0);
                    queue.clear();
                }
            },
            message = from.next(), if reading => {
                let Some(Ok(message)) = message else { return };
                client.set(true, reading);
                if matches!(message, Message::Close(_)) {
                    return;
                }
                if let Some(next) = parse(message).filter(|_| open) {
                    queued += size(&next);
                    queue.push_back(next);
                }
            }
        }
    }
}

/// What an input takes up in the queue.
fn size(input: &ExecInput) -> usize {
    let data = if let ExecInput::Data(data) = input { data.len() } else { 0 };
    data + size_of::<ExecInput>()
}

fn parse(message: Message) -> Option<ExecInput> {
    match message {
        // An empty message does not end the input: there is a control for that.
        Message::Binary(data) if data.is_empty() => None,
        Message::Binary(data) => Some(ExecInput::Data(data.to_vec())),
        Message::Text(text) => match serde_json::from_str(&text) {
            Ok(ExecControl::Resize(size)) => Some(ExecInput::Resize(size)),
            Ok(ExecControl::Signal(signal)) => Some(ExecInput::Signal(signal)),
            Ok(ExecControl::Eof(true)) => Some(ExecInput::Data(Vec::new())),
            // From a newer client: not for this version.
            Ok(ExecControl::Eof(false)) | Err(_) => None,
        },
        Message::Close(_) | Message::Ping(_) | Message::Pong(_) => None,
    }
}

pub(super) fn end(end: &ExecEnd) -> Message {
    Message::Text(serde_json::to_string(end).expect("plain data").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::convert::Infallible;
    use std::future::pending;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    /// A client's end of the socket: delivers messages until it is gone.
    struct Client {
        gone_at: Instant,
    }

    impl Sink<Message> for Client {
        type Error = &'static str;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
            let gone = Instant::now() >= self.gone_at;
            Poll::Ready(if gone { Err("reset by peer") } else { Ok(()) })
        }

        fn start_send(self: Pin<&mut Self>, _: Message) -> Result<(), &'static str> {
            Ok(())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
            Poll::Ready(Ok(()))
        }
    }

    type Session = (ExecSession, mpsc::Receiver<ExecInput>, mpsc::Sender<ExecOutput>);

    /// A session whose command neither reads nor writes.
    fn session() -> Session {
        let (input, commands) = mpsc::channel(4);
        let (answers, output) = mpsc::channel(4);
        (ExecSession { input, output }, commands, answers)
    }

    fn data(len: usize) -> Result<Message, &'static str> {
        Ok(Message::Binary(vec![b'x'; len].into()))
    }

    fn after(secs: u64) -> Instant {
        Instant::now() + Duration::from_secs(secs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_is_noticed_while_the_command_does_not_read() {
        let (session, commands, answers) = session();
        // More than the channel takes, less than the queue; then it leaves.
        let from = stream::iter((0..20).map(|_| data(16 * 1024)));
        let ended = proxy_session(session, Client { gone_at: after(3600) }, from, pending());
        timeout(Duration::from_secs(1), ended).await.expect("it ends at once");
        drop((commands, answers));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_not_read_from_is_missed_by_its_pings() {
        let (session, commands, answers) = session();
        // Far more than the queue takes; the client is gone after ten seconds.
        let from = stream::iter((0..1000).map(|_| data(64 * 1024))).chain(stream::pending());
        let ended = proxy_session(session, Client { gone_at: after(10) }, from, pending());
        timeout(Duration::from_secs(60), ended).await.expect("a ping cannot be delivered");
        drop((commands, answers));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_no_ping_is_gone_and_one_that_does_is_not() {
        let (quiet, commands, answers) = session();
        let ended =
            proxy_session(quiet, Client { gone_at: after(3600) }, stream::pending(), pending());
        timeout(Duration::from_secs(90), ended).await.expect("it sends nothing");
        drop((commands, answers));
        let (alive, commands, answers) = session();
        let pongs = stream::unfold((), async |()| {
            tokio::time::sleep(PING_EVERY).await;
            Some((Ok(Message::Pong(bytes::Bytes::new())), ()))
        });
        let ended =
            proxy_session(alive, Client { gone_at: after(36_000) }, Box::pin(pongs), pending());
        let ended = timeout(Duration::from_secs(3600), ended).await;
        assert!(ended.is_err(), "an idle session stays");
        drop((commands, answers));
    }

    #[tokio::test(start_paused = true)]
    async fn input_waits_for_a_slow_command_and_none_is_lost() {
        let (input, mut commands) = mpsc::channel(1);
        let total = 300 * 32 * 1024;
        let from = stream::iter(
            (0..300).map(|_| Ok::<_, Infallible>(Message::Binary(vec![b'x'; 32 * 1024].into()))),
        );
        let mut from = Box::pin(from.chain(stream::pending()));
        let client = Liveness::new();
        let read = async {
            let mut got = 0;
            while got < total {
                let Some(ExecInput::Data(data)) = commands.recv().await else { panic!("it ended") };
                got += data.len();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            got
        };
        tokio::select! {
            got = read => assert_eq!(got, total),
            () = recv_input(input, &mut from, &client) => panic!("the client is still there"),
        }
    }
}
