//! Syslog messages (RFC 5424) over TCP (RFC 6587, with octet counting) and TLS (RFC 5425).
//!
//! The protocol has no acknowledgements. A delivery is complete when the receiver's kernel has
//! acknowledged all bytes. A receiver that ends its connection soon after that may not have read
//! them: the last delivery over that connection is repeated over the next one.

mod connection;
mod message;

use crate::settings::{Common, SyslogTarget};
use crate::tls;
use async_trait::async_trait;
use connection::Connection;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use worker::ports::{BatchLimits, ExportedLine, LogSink, PortError, SendError, Taken};

/// A receiver that has kept its connection for this long has read what was sent before.
const READ_AFTER: Duration = Duration::from_secs(10);

/// A receiver of syslog.
pub(crate) struct Syslog {
    common: Common,
    target: SyslogTarget,
    tls: Option<TlsConnector>,
    host: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Taken out while it is used: a delivery that is given up leaves none.
    connection: Option<Connection>,
    /// The last delivery over the connection, and when it was complete.
    last: Option<(Vec<u8>, Instant)>,
}

impl Syslog {
    pub(crate) fn open(
        common: Common,
        target: SyslogTarget,
        host: &str,
    ) -> Result<Self, PortError> {
        let tls = target.tls.then(|| tls::connector(target.ca_file.as_deref())).transpose()?;
        Ok(Self { common, target, tls, host: host.to_owned(), state: Mutex::default() })
    }

    async fn deliver(&self, state: &mut State, frames: Vec<u8>) -> Result<(), PortError> {
        let open = state.connection.take();
        let open = open.and_then(|mut open| (!open.closed()).then_some(open));
        let mut connection = match open {
            Some(connection) => connection,
            None => {
                let mut new = Connection::open(&self.target, self.tls.as_ref()).await?;
                let last = state.last.as_ref();
                if let Some((unread, _)) = last.filter(|(_, at)| at.elapsed() < READ_AFTER) {
                    new.send(unread).await?;
                }
                new
            }
        };
        connection.send(&frames).await?;
        state.connection = Some(connection);
        state.last = Some((frames, Instant::now()));
        Ok(())
    }
}

#[async_trait]
impl LogSink for Syslog {
    fn name(&self) -> &str {
        &self.common.name
    }

    fn limits(&self) -> BatchLimits {
        self.common.limits
    }

    async fn send(&self, lines: &[ExportedLine]) -> Result<Taken, SendError> {
        let mut frames = Vec::new();
        for line in lines {
            message::frame(line, &self.host, &self.common.labels, &mut frames);
        }
        let mut state = self.state.lock().await;
        let delivered = self.deliver(&mut state, frames).await;
        delivered.map(|()| Taken::default()).map_err(SendError::Unavailable)
    }
}
