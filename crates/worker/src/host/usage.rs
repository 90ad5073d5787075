//! The memory that running VMs really hold.

use super::{Shared, Worker};
use crate::machine::Handle;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use wire::worker::HostInfo;

/// To read it costs milliseconds per VM, so it is not read more often.
const FRESH: Duration = Duration::from_secs(1);

/// When it was read last, and the MiB of then.
#[derive(Debug, Default)]
pub(super) struct Usage(Mutex<Option<(Instant, u64)>>);

impl Worker {
    /// What this host is and has, and what its VMs use of it.
    pub async fn info_with_usage(&self) -> HostInfo {
        let memory_used_mib = used_mib(&self.0).await;
        let templates = self.0.hypervisor.templates();
        let words = |shape: &crate::ports::Shape| format!("{}x{}", shape.vcpus, shape.memory_mib);
        let templates = templates.iter().map(words).collect();
        HostInfo { memory_used_mib, templates, ..self.info() }
    }
}

/// Read once for however many ask at a time.
async fn used_mib(host: &Arc<Shared>) -> u64 {
    let mut last = host.usage.0.lock().await;
    if let Some((_, mib)) = last.filter(|(at, _)| at.elapsed() < FRESH) {
        return mib;
    }
    let shared = host.clone();
    let read = tokio::task::spawn_blocking(move || read_bytes(&shared) >> 20);
    // It is for show: a defect in it is as good as none read.
    let mib = read.await.unwrap_or_default();
    *last = Some((Instant::now(), mib));
    mib
}

fn read_bytes(host: &Shared) -> u64 {
    let views = host.handles();
    let vms = views.iter().map(Handle::view).filter_map(|view| {
        let record = &view.record;
        host.hypervisor.memory(record.id, record.boot?)
    });
    vms.sum()
}
