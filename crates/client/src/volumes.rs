//! Volumes of an app.

use crate::{Client, Error, SHORT};
use reqwest::Method;
use std::time::Duration;
use wire::machines::{CreateVolume, ExtendVolume, Volume, VolumeExtended};

/// Most time of a call that makes or changes a disk.
const DISK: Duration = Duration::from_secs(90);

impl Client {
    /// Volumes of an app, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn volumes(&self, app: &str) -> Result<Vec<Volume>, Error> {
        self.json(self.call(Method::GET, &["v1", "apps", app, "volumes"]).within(SHORT)).await
    }

    /// One volume.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn volume(&self, app: &str, id: &str) -> Result<Volume, Error> {
        self.json(self.call(Method::GET, &["v1", "apps", app, "volumes", id]).within(SHORT)).await
    }

    /// Creates a volume.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_volume(&self, app: &str, ask: &CreateVolume) -> Result<Volume, Error> {
        let call = self.call(Method::POST, &["v1", "apps", app, "volumes"]);
        self.json(call.within(DISK).body(ask)).await
    }

    /// Makes a volume larger.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn extend_volume(
        &self,
        app: &str,
        id: &str,
        size_gb: u32,
    ) -> Result<VolumeExtended, Error> {
        let call = self.call(Method::PUT, &["v1", "apps", app, "volumes", id, "extend"]);
        self.json(call.within(DISK).body(&ExtendVolume { size_gb })).await
    }

    /// Destroys a volume with everything on it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn destroy_volume(&self, app: &str, id: &str) -> Result<Volume, Error> {
        let call = self.call(Method::DELETE, &["v1", "apps", app, "volumes", id]);
        self.json(call.within(DISK)).await
    }
}
