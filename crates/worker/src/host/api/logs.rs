//! Log lines of an app's machines.

use crate::host::registry::Worker;
use crate::logs::LogNames;
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use host_api::{CallContext, HostError, LogLine, Logs};
use model::id::AppId;
use wire::logs::{LogEntry, LogQuery};

#[async_trait]
impl Logs for Worker {
    async fn logs(
        &self,
        context: CallContext,
        app: AppId,
        query: LogQuery,
    ) -> Result<BoxStream<'static, LogEntry>, HostError> {
        let (host, instance) = (self.0.clone(), query.instance.clone());
        let machines = LogNames::new(move || {
            let views = host.handles().into_iter().map(|handle| handle.view());
            // Also those of destroyed machines, as long as their records are kept.
            let of_app = views.filter(|view| view.record.app == app);
            let ids = of_app.map(|view| view.record.id.to_string());
            let wanted = |id: &String| instance.as_ref().is_none_or(|instance| instance == id);
            ids.filter(wanted).collect()
        });
        let read = async {
            let lines = self.0.context.logs.query(machines, &app.to_string(), &query).await;
            lines.map_err(|err| HostError::Busy(err.to_string()))
        };
        let lines = self.within(&context, read).await?;
        Ok(lines.take_until(self.0.context.tasks.stopping()).boxed())
    }

    fn append(&self, line: LogLine) {
        let machine = line.machine.map(|machine| machine.to_string());
        let by = (line.provider.as_str(), line.level.as_str());
        let (app, machine) = (line.app.to_string(), machine.as_deref());
        self.0.context.logs.append(&app, machine, by, &line.message);
    }
}
