//! Upgraded connections (WebSocket and others): bytes both ways.

use crate::admission::permit::Permit;
use crate::listen::connections::OpenRequest;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};

/// Large buffers halve the work per byte against 8 KiB (measured).
const BUFFER: usize = 64 << 10;

/// An upgraded connection on its way between a client and an app.
pub(crate) struct Tunnel {
    pub(crate) client: OnUpgrade,
    pub(crate) app: OnUpgrade,
    /// Longest time in which neither side sends anything.
    pub(crate) idle: Duration,
    /// The machine's epoch in which the connection to the app was made.
    pub(crate) boot_epoch: u64,
    /// The tunnel counts as load of the machine.
    pub(crate) permit: Permit,
    /// The tunnel counts as use of the client's connection, whose place it keeps.
    pub(crate) open: OpenRequest,
}

/// Carries bytes until both sides have ended, neither has sent any for the idle time,
/// or the boot of the machine has ended: a VM that is killed sends no FIN.
pub(crate) async fn run(tunnel: Tunnel) {
    let Tunnel { client, app, idle, boot_epoch, permit, open: _open } = tunnel;
    let machine = &permit.machine;
    let carried = async {
        match tokio::try_join!(client, app) {
            Ok((client, app)) => carry(client, app, idle).await,
            Err(err) => tracing::debug!(machine = %machine.id, %err, "upgrade failed"),
        }
    };
    tokio::select! {
        () = carried => {}
        () = machine.boot_ended(boot_epoch) => {}
    }
}

async fn carry(client: Upgraded, app: Upgraded, idle: Duration) {
    let moved = AtomicU64::new(0);
    let (client_in, client_out) = split(TokioIo::new(client));
    let (app_in, app_out) = split(TokioIo::new(app));
    let both =
        async { tokio::join!(copy(client_in, app_out, &moved), copy(app_in, client_out, &moved)) };
    let silent = async {
        loop {
            let before = moved.load(Relaxed);
            tokio::time::sleep(idle).await;
            if moved.load(Relaxed) == before {
                return;
            }
        }
    };
    tokio::select! {
        _ = both => {}
        () = silent => {}
    }
}

/// One way. A half that ends ends the other side's half only.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicU64,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = match from.read(&mut buffer).await {
            Ok(n) if n > 0 => n,
            _ => break,
        };
        moved.fetch_add(1, Relaxed);
        if to.write_all(&buffer[..n]).await.is_err() || to.flush().await.is_err() {
            return;
        }
        moved.fetch_add(1, Relaxed);
    }
    // The peer may be gone already.
    let _ = to.shutdown().await;
}
