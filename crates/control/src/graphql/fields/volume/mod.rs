//! Volumes.

use crate::Error;
use crate::graphql::answer::{Answer, Args, Fields};
use crate::graphql::session::Session;
use async_trait::async_trait;
use serde_json::json;

/// A volume with its app.
pub(in crate::graphql) struct Volume {
    pub(in crate::graphql) volume: wire::machines::Volume,
    /// An object of the type `App`.
    pub(in crate::graphql) app: Answer,
}

#[async_trait]
impl Fields for Volume {
    fn type_name(&self) -> &'static str {
        "Volume"
    }

    async fn field(&self, _: &Session, name: &str, _: &Args) -> Result<Answer, Error> {
        Ok(Answer::Json(match name {
            "id" => json!(self.volume.id),
            "state" => json!(self.volume.state),
            "app" => return Ok(self.app.clone()),
            "snapshots" => return Err(Error::not_implemented("snapshots of volumes are")),
            _ => return Err(Error::internal(format!("Volume has no field {name}"))),
        }))
    }
}
