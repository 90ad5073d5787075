//! Machines.

use super::super::answer::{Answer, Args, Fields};
use super::super::session::Session;
use crate::{Error, lookup};
use async_trait::async_trait;
use serde_json::{Value, json};

/// Length of the prefix of a machine's 6PN address
/// (<https://fly.io/docs/networking/private-networking/>).
const MASK: u32 = 112;

/// A machine with its app.
pub(super) struct Machine {
    pub(super) machine: wire::machines::Machine,
    /// An object of the type `App`.
    pub(super) app: Answer,
}

#[async_trait]
impl Fields for Machine {
    fn type_name(&self) -> &'static str {
        "Machine"
    }

    async fn field(&self, session: &Session, name: &str, _: &Args) -> Result<Answer, Error> {
        let machine = &self.machine;
        Ok(Answer::Json(match name {
            "id" => json!(machine.id),
            "name" => json!(machine.name),
            "state" => json!(machine.state),
            "region" => json!(machine.region),
            "createdAt" => json!(machine.created_at),
            "config" => {
                let config = machine.config.as_ref().or(machine.incomplete_config.as_ref());
                config.map_or_else(|| Ok(json!({})), serde_json::to_value).map_err(|err| {
                    Error::internal(format!("write the config of a machine: {err}"))
                })?
            }
            "app" => return Ok(self.app.clone()),
            "ips" => json!({ "nodes": self.addresses() }),
            "host" => {
                let id = machine.id.parse().ok();
                let found = match id {
                    Some(id) => lookup::by_id(&session.platform, id).await?,
                    None => None,
                };
                let owner = found.map(|found| found.record.owner.0.to_string());
                json!({ "id": owner.unwrap_or_default() })
            }
            "egressIpAddresses" => json!({ "nodes": [] }),
            _ => return Err(Error::internal(format!("Machine has no field {name}"))),
        }))
    }
}

impl Machine {
    /// One that cannot be asked for it has no address.
    fn addresses(&self) -> Vec<Value> {
        let ip = &self.machine.private_ip;
        let shown = json!({ "family": "v6", "kind": "privatenet", "ip": ip, "maskSize": MASK });
        if ip.is_empty() { vec![] } else { vec![shown] }
    }
}
