//! The host's identity and resources.

use crate::host::registry::Worker;
use crate::ports::Shape;
use async_trait::async_trait;
use host_api::{CallContext, HostError, HostInfo, Status};
use std::collections::BTreeMap;

#[async_trait]
impl Status for Worker {
    async fn info(&self, _context: CallContext) -> Result<HostInfo, HostError> {
        Ok(self.host_info())
    }

    async fn info_with_usage(&self, context: CallContext) -> Result<HostInfo, HostError> {
        let host = &self.0.context;
        let used = async { Ok(self.0.usage.used_mib(host, self.0.handles()).await) };
        let memory_used_mib = self.within(&context, used).await?;
        let shape = |shape: &Shape| format!("{}x{}", shape.vcpus, shape.memory_mib);
        let templates = host.hypervisor.templates().iter().map(shape).collect();
        Ok(HostInfo { memory_used_mib, templates, ..self.host_info() })
    }
}

impl Worker {
    fn host_info(&self) -> HostInfo {
        let host = &self.0.context;
        let about = host.hypervisor.about();
        let mut machines: BTreeMap<String, u64> = BTreeMap::new();
        for view in self.0.handles().iter().map(|handle| handle.view()) {
            if view.record.given_up.is_none() {
                *machines.entry(view.record.state.as_str().to_owned()).or_default() += 1;
            }
        }
        HostInfo {
            host: host.config.host,
            name: host.config.name.clone(),
            region: host.config.region.clone(),
            region_codes: host.config.region_codes.clone(),
            region_aliases: host.config.region_aliases.clone(),
            accelerator: about.accelerator,
            hypervisor: about.version,
            cpus: host.config.cpus,
            memory_mib: host.config.memory_mib,
            memory_reserved_mib: host.capacity.reserved_mib(),
            memory_used_mib: 0,
            overcommit: host.config.overcommit,
            templates: Vec::new(),
            machines,
            ipv4_pool: Some(host.config.pool.cidr()),
        }
    }
}
