//! A client's connection to the API, which is cut off when the client stops
//! reading: otherwise a client that asks for much and reads nothing would keep its
//! place without end.

use control::http_api::Connection;
use rt::{PeerLimits, PeerStream};
use std::time::Duration;

/// Time without progress of a write.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteLimits {
    /// For a client that has shown no token.
    pub(super) stranger: Duration,
    /// For one that has: a terminal or a pager may be paused for a while.
    pub(super) with_token: Duration,
}

/// The stream of a client.
pub(super) type ClientIo<S> = PeerStream<S, ClientLimits>;

/// The stream of `connection`.
pub(super) fn client_io<S>(stream: S, connection: Connection, limits: WriteLimits) -> ClientIo<S> {
    PeerStream::new(stream, ClientLimits { connection, limits })
}

/// What is demanded of a client.
pub(super) struct ClientLimits {
    connection: Connection,
    limits: WriteLimits,
}

impl PeerLimits for ClientLimits {
    fn write_limit(&self) -> Duration {
        let WriteLimits { stranger, with_token } = self.limits;
        if self.connection.has_shown_token() { with_token } else { stranger }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use tokio::io::AsyncWriteExt;
    use tokio::time::Instant;

    const LIMITS: WriteLimits =
        WriteLimits { stranger: Duration::from_secs(30), with_token: Duration::from_secs(600) };

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut_off_sooner_without_a_token() {
        for (shown, limit) in [(false, LIMITS.stranger), (true, LIMITS.with_token)] {
            let (near, _far) = tokio::io::duplex(16);
            let connection = Connection::default();
            if shown {
                connection.token_shown();
            }
            let begun = Instant::now();
            let mut io = client_io(near, connection, LIMITS);
            let failed = io.write_all(&[0; 17]).await.unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::TimedOut);
            assert_eq!(begun.elapsed().as_secs(), limit.as_secs());
        }
    }
}
