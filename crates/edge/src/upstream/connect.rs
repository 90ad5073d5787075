//! Makes connections to machines, through their hosts.

use crate::admission::machine::Machine;
use crate::http::code::Code;
use host_api::{CallContext, GuestStream, Upstream};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct NoConnection {
    pub(crate) code: Code,
    pub(crate) why: String,
}

impl NoConnection {
    fn new(port: u16, err: &io::Error) -> Self {
        let code = match err.kind() {
            ErrorKind::ConnectionRefused => Code::Pc01,
            // A boot that has ended is not found.
            ErrorKind::ConnectionReset | ErrorKind::NotFound => Code::Pc03,
            ErrorKind::TimedOut => Code::Pc05,
            _ => Code::Pc06,
        };
        Self { code, why: format!("connect to internal port {port}: {err}") }
    }
}

/// A stream to the boot of the machine that began in `epoch`.
///
/// # Errors
/// It cannot be connected to within `limit`, or the boot has ended.
pub(crate) async fn connect(
    machine: &Arc<Machine>,
    upstream: Upstream,
    epoch: u64,
    limit: Duration,
) -> Result<Box<dyn GuestStream>, NoConnection> {
    let began = Instant::now();
    // What the call reports about a silent host or guest is known before `limit`.
    let call_limit = limit - limit / 20;
    let made = tokio::select! {
        biased;
        made = timeout(limit, stream_to(machine, epoch, upstream, call_limit)) => {
            let made = made.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
            machine.host.record_connect(began, &made);
            made
        }
        // A VM that is gone answers nothing, and other requests wait for this one.
        () = machine.boot_ended(epoch) => Err(ErrorKind::ConnectionReset.into()),
    };
    made.map_err(|err| NoConnection::new(upstream.port, &err))
}

/// Until one connection has been made since the machine came up, only one request
/// at a time tries: many SYNs would meet a guest that cannot take them yet, fill
/// its queue, and be repeated by the kernel only after a second.
async fn stream_to(
    machine: &Arc<Machine>,
    epoch: u64,
    upstream: Upstream,
    limit: Duration,
) -> io::Result<Box<dyn GuestStream>> {
    if !machine.has_connected(epoch) {
        let _connect = machine.connect_lock.lock().await;
        if !machine.has_connected(epoch) {
            let stream = connect_repeatedly(machine, upstream, limit).await?;
            machine.record_connected(epoch);
            return Ok(stream);
        }
    }
    call_host(machine, upstream, limit).await
}

async fn call_host(
    machine: &Machine,
    upstream: Upstream,
    limit: Duration,
) -> io::Result<Box<dyn GuestStream>> {
    let context = CallContext::edge(limit).at(machine.ownership);
    machine.host.api.connections.connect(context, upstream).await
}

/// Connects, and once more in parallel while there is no answer: after 20 ms,
/// 40 ms and so on, since a guest that has just been resumed may lose a SYN. An
/// attempt that was begun continues, since a slow guest will answer it. The first
/// to be made or refused counts.
async fn connect_repeatedly(
    machine: &Arc<Machine>,
    upstream: Upstream,
    limit: Duration,
) -> io::Result<Box<dyn GuestStream>> {
    let mut pause = Duration::from_millis(20);
    let mut begun = JoinSet::new();
    loop {
        let machine = machine.clone();
        begun.spawn(async move { call_host(&machine, upstream, limit).await });
        match timeout(pause, begun.join_next()).await {
            Ok(Some(Ok(done))) => return done,
            // One that panicked is as good as lost.
            Ok(_) | Err(_) => pause *= 2,
        }
    }
}
