//! The table of methods.

use super::Server;
use crate::codec::{self, ChannelBody, FrameError, FrameReader};
use crate::pipe::BodyRead;
use host_api::{CallContext, LogLine};
use model::id::MachineId;
use serde::Serialize;

/// The answer of a call: its body, or `None` if the method is not known.
type Answer = Result<Option<ChannelBody>, FrameError>;

/// An answer of one frame.
fn one<T: Serialize>(value: &T) -> Answer {
    let (sender, body) = codec::channel();
    let frame = codec::encode(value)?;
    sender.try_bytes(frame);
    Ok(Some(body))
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
            "events" => unary!(events, id, limit),
            "versions" => unary!(versions, id),
            "wait" => unary!(wait, id, wait),
            "processes" => unary!(processes, id),
            "resolve_image" => unary!(resolve_image, reference),
            "images" => unary!(images,),
            "remove_image" => unary!(remove_image, reference),
            "wake" => unary!(wake, id),
            "stop_idle" => unary!(stop_idle, id, reason),
            "suspend_idle" => unary!(suspend_idle, id, reason),
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
