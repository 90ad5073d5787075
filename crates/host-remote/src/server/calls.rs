//! The table of methods.

use super::Server;
use crate::codec::{self, ChannelBody, FrameError, FrameReader};
use crate::pipe::BodyRead;
use bytes::Bytes;
use host_api::{CallContext, HostError, LogLine};
use model::id::MachineId;
use serde::Serialize;

/// The answer of a call: its body, or `None` if the method is not known.
type Answer = Result<Option<ChannelBody>, FrameError>;

/// An answer of one frame.
fn one<T: Serialize>(value: &T) -> Answer {
    let (sender, body) = codec::channel();
    sender.try_bytes(answer_frame(value)?);
    Ok(Some(body))
}

/// The frame of an answer. One that is too long is no fault of the peer: it is reported in
/// place of it.
fn answer_frame<T: Serialize>(value: &T) -> Result<Bytes, FrameError> {
    codec::encode(value).or_else(|err| {
        tracing::error!(error = rt::chain(&err), "send an answer to a peer");
        let why = format!("the host's answer cannot be sent: {err}");
        codec::encode(&Err::<(), _>(HostError::Internal(why)))
    })
}

impl Server {
    pub(super) async fn call(
        &self,
        method: &str,
        context: CallContext,
        mut body: FrameReader,
    ) -> Answer {
        let host = &self.0.host;
        // One line a method: the arguments travel as one tuple.
        macro_rules! unary {
            ($call:ident, $($argument:ident),*) => {{
                let ($($argument,)*) = body.next().await?;
                one(&host.$call(context, $($argument),*).await)
            }};
        }
        match method {
            "info" => unary!(info,),
            "info_with_usage" => unary!(info_with_usage,),
            "create" => unary!(create, machine),
            "update" => unary!(update, update),
            "machine" => unary!(machine, id),
            "machines" => unary!(machines, filter),
            "start" => unary!(start, id),
            "stop" => unary!(stop, id, stop),
            "suspend" => unary!(suspend, id),
            "restart" => unary!(restart, id, stop, force),
            "signal" => unary!(signal, id, signal),
            "destroy" => unary!(destroy, id, force),
            "cordon" => unary!(cordon, id, cordoned),
            "change_metadata" => unary!(change_metadata, id, change, version),
            "events" => {
                let (id, limit): (MachineId, usize) = body.next().await?;
                one(&host.events(context, id, limit, None).await)
            }
            "events_before" => unary!(events, id, limit, before),
            "acquire_lease" => unary!(acquire_lease, id, wanted),
            "lease" => unary!(lease, id),
            "memory" => unary!(memory, id),
            "limit_memory" => unary!(limit_memory, id, limit_mb),
            "reclaim_memory" => unary!(reclaim_memory, id, amount_mb),
            "release_lease" => unary!(release_lease, id),
            "versions" => unary!(versions, id),
            "wait" => unary!(wait, id, wait),
            "processes" => unary!(processes, id),
            "put_secrets" => unary!(put_secrets, secrets),
            "create_volume" => unary!(create_volume, volume),
            "volume" => unary!(volume, id),
            "volumes" => unary!(volumes, filter),
            "change_volume" => unary!(change_volume, id, change),
            "extend_volume" => unary!(extend_volume, id, size_gb),
            "destroy_volume" => unary!(destroy_volume, id),
            "checks" => unary!(checks, id),
            "runs" => unary!(runs, id, limit),
            "run_now" => unary!(run_now, id),
            "resolve_image" => unary!(resolve_image, reference),
            "images" => unary!(images,),
            "remove_image" => unary!(remove_image, reference),
            "wake" => unary!(wake, id),
            "stop_idle" => unary!(stop_idle, id, reason),
            "suspend_idle" => unary!(suspend_idle, id, reason),
            "set_busy" => unary!(set_busy, id, ttl_ms),
            "append" => {
                let (lines,): (Vec<LogLine>,) = body.next().await?;
                lines.into_iter().for_each(|line| host.append(line));
                one(&())
            }
            "drained" => {
                let (id,): (MachineId,) = body.next().await?;
                host.drained(id);
                one(&())
            }
            "exec" => self.exec(context, body).await.map(Some),
            "logs" => self.logs(context, body).await.map(Some),
            "follow_events" => self.follow_events(context, body).await.map(Some),
            "import_image" => {
                let (name,) = body.next().await?;
                let tar = Box::new(BodyRead::new(body));
                self.import_image(context, name, tar).await.map(Some)
            }
            "routes" => self.routes(context, body).await.map(Some),
            "connect" => self.connect(context, body).await.map(Some),
            "guest_connections" => self.guest_connections(context, body).await.map(Some),
            "guest_connection" => self.guest_connection(body).await.map(Some),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_too_long_is_an_error_of_the_host() {
        let long: Result<String, HostError> = Ok("x".repeat(codec::MAX_FRAME));
        let frame = answer_frame(&long).unwrap();
        let answer: Result<String, HostError> = ciborium::from_reader(&frame[4..]).unwrap();
        assert!(
            matches!(&answer, Err(HostError::Internal(why)) if why.contains("too long")),
            "{answer:?}"
        );
    }
}
