//! The memory that running VMs really hold.

use crate::context::HostContext;
use crate::machine::Handle;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A read costs milliseconds per VM, so the last value is used for this long.
const FRESH: Duration = Duration::from_secs(1);

/// When it was read last, and the MiB as of then.
#[derive(Debug, Default)]
pub(super) struct Usage(Mutex<Option<(Instant, u64)>>);

impl Usage {
    /// Read once for however many callers at a time.
    pub(super) async fn used_mib(&self, host: &Arc<HostContext>, machines: Vec<Handle>) -> u64 {
        let mut last = self.0.lock().await;
        if let Some((_, mib)) = last.filter(|(at, _)| at.elapsed() < FRESH) {
            return mib;
        }
        let host = host.clone();
        let read = tokio::task::spawn_blocking(move || read_bytes(&host, &machines) >> 20);
        // For information only: a failure counts as 0.
        let mib = read.await.unwrap_or_default();
        *last = Some((Instant::now(), mib));
        mib
    }
}

fn read_bytes(host: &HostContext, machines: &[Handle]) -> u64 {
    let vms = machines.iter().map(Handle::view).filter_map(|view| {
        let record = &view.record;
        host.hypervisor.memory(record.id, record.boot?)
    });
    vms.sum()
}
