//! A host in another process, behind the traits of `host-api`.

mod calls;
mod connection;
mod guest_streams;
mod hints;
mod streams;
mod volumes;

pub use connection::{Dial, TlsDial};

use crate::codec::{self, BodySender, ChannelBody, FrameError, FrameReader, MAX_FRAME};
use crate::server::PREFIX;
use connection::Connection;
use hints::Hints;
use host_api::{CallContext, Deadline, HostError, KnownHost};
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use model::id::HostId;
use rt::Tasks;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// A host in another process. Cheap to clone.
#[derive(Clone)]
pub struct RemoteHost(Arc<Inner>);

struct Inner {
    id: HostId,
    connection: Connection,
    tasks: Tasks,
    hints: Hints,
}

impl std::fmt::Debug for RemoteHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteHost").field("id", &self.0.id).finish_non_exhaustive()
    }
}

impl RemoteHost {
    /// Host `id`, reached by `dial`. Nothing is dialled before the first call.
    pub fn new(id: HostId, dial: Arc<dyn Dial>, tasks: Tasks) -> Self {
        let (hints, waiting) = Hints::new(id);
        let connection = Connection::new(id, dial, tasks.clone());
        let host = Self(Arc::new(Inner { id, connection, tasks: tasks.clone(), hints }));
        waiting.send(&host.0, &tasks);
        host
    }

    /// The host at the other end of `dial`, whatever its number: where there can be but
    /// one, as at a socket file.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn find(dial: Arc<dyn Dial>, tasks: Tasks) -> Result<Self, HostError> {
        let found = connection::find_number(dial.clone(), tasks.clone()).await;
        Ok(Self::new(found.map_err(HostError::unreachable)?, dial, tasks))
    }

    /// The host, as the list of hosts has it.
    pub fn known(&self) -> KnownHost {
        KnownHost { id: self.0.id, host: Arc::new(self.clone()) }
    }

    /// A call that is answered by one frame.
    async fn unary<A, T>(
        &self,
        method: &'static str,
        context: CallContext,
        arguments: &A,
    ) -> Result<T, HostError>
    where
        A: Serialize + Sync + ?Sized,
        T: DeserializeOwned,
    {
        let (_, _, answer) = self.open(method, context, arguments).await?;
        Ok(answer)
    }

    /// A call whose first frame is `T`, with what both sides stream after it.
    async fn open<A, T>(
        &self,
        method: &'static str,
        context: CallContext,
        arguments: &A,
    ) -> Result<(BodySender, FrameReader, T), HostError>
    where
        A: Serialize + Sync + ?Sized,
        T: DeserializeOwned,
    {
        let (sender, body) = begin(method, &context, arguments)?;
        let (answers, first) = self.exchange(method, context.deadline, body).await?;
        Ok((sender, answers, first))
    }

    /// Sends a body and reads the first frame of the answer, until the deadline.
    async fn exchange<T: DeserializeOwned>(
        &self,
        method: &'static str,
        deadline: Deadline,
        body: ChannelBody,
    ) -> Result<(FrameReader, T), HostError> {
        let answered = async {
            let response = self.request(method, body).await?;
            let mut answers = FrameReader::new(response, MAX_FRAME);
            let first = answers.next().await.map_err(|err| self.broken(method, &err))?;
            Ok((answers, first))
        };
        tokio::select! {
            answer = answered => answer,
            () = deadline.passed() => {
                let host = self.0.id;
                let why = format!("{method}: host {host} did not answer in time");
                Err(HostError::DeadlineExceeded(why))
            }
        }
    }

    async fn request(
        &self,
        method: &'static str,
        body: ChannelBody,
    ) -> Result<Incoming, HostError> {
        let sent = self.0.connection.send(call(method, body)?).await;
        let response = sent.map_err(|failed| self.away(method, &failed))?;
        accepted(format_args!("host {}", self.0.id), method, response)
    }

    fn away(&self, method: &str, failed: &connection::Failed) -> HostError {
        let host = self.0.id;
        let message = format!("{method}: host {host} cannot be reached: {}", failed.why);
        HostError::Unavailable { message, may_have_run: failed.may_have_run }
    }

    fn broken(&self, method: &str, err: &FrameError) -> HostError {
        let host = self.0.id;
        let message = format!("{method}: the answer of host {host} broke off: {}", rt::chain(err));
        match err {
            FrameError::Malformed(_) | FrameError::TooLong(_) => HostError::Internal(message),
            _ => HostError::Unavailable { message, may_have_run: true },
        }
    }
}

/// The request of a call.
fn call(method: &str, body: ChannelBody) -> Result<Request<ChannelBody>, HostError> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    // The authority of the URL has no meaning: the peer is known by its certificate.
    let uri = format!("https://host{PREFIX}{method}").parse::<Uri>();
    *request.uri_mut() = uri.map_err(|err| HostError::Internal(err.to_string()))?;
    Ok(request)
}

/// The body of an answer, if the host has taken the call.
fn accepted(
    host: impl std::fmt::Display,
    method: &str,
    response: Response<Incoming>,
) -> Result<Incoming, HostError> {
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        StatusCode::NOT_FOUND => Err(HostError::Unsupported(format!(
            "{host} runs another version and does not know {method}"
        ))),
        StatusCode::FORBIDDEN => Err(HostError::Internal(format!(
            "{host} does not let this peer call {method}: its certificate lacks the role"
        ))),
        other => Err(HostError::Internal(format!("{method}: answered with status {other}"))),
    }
}

/// A body that begins with the context and the arguments.
fn begin<A: Serialize + ?Sized>(
    method: &str,
    context: &CallContext,
    arguments: &A,
) -> Result<(BodySender, ChannelBody), HostError> {
    let (sender, body) = codec::channel();
    let unwritable = |err| HostError::Invalid(format!("{method}: {}", rt::chain(&err)));
    for frame in [codec::encode(context), codec::encode(arguments)] {
        sender.try_bytes(frame.map_err(unwritable)?);
    }
    Ok((sender, body))
}
