//! Apps, and the platform: hosts, regions and placements.

use crate::{Client, Error, SHORT};
use reqwest::Method;
use wire::machines::{App, AppList, CreateApp, CreatedApp};
use wire::platform::{AskPlacements, HostInfo, HostNames, Placements, RegionList};

impl Client {
    /// Apps of an org, or of the default one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn apps(&self, org: Option<&str>) -> Result<AppList, Error> {
        let mut call = self.call(Method::GET, &["v1", "apps"]).within(SHORT);
        if let Some(org) = org {
            call = call.query(&[("org_slug", org.to_owned())]);
        }
        self.json(call).await
    }

    /// One app.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn app(&self, app: &str) -> Result<App, Error> {
        self.json(self.call(Method::GET, &["v1", "apps", app]).within(SHORT)).await
    }

    /// Makes an app.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_app(&self, app: &CreateApp) -> Result<CreatedApp, Error> {
        self.json(self.call(Method::POST, &["v1", "apps"]).within(SHORT).body(app)).await
    }

    /// Deletes an app; with `force` also one that has machines.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_app(&self, app: &str, force: bool) -> Result<(), Error> {
        let call = self.call(Method::DELETE, &["v1", "apps", app]).within(SHORT);
        self.done(call.query(&[("force", force.to_string())])).await
    }

    /// The regions of the platform.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn regions(&self) -> Result<RegionList, Error> {
        self.json(self.call(Method::GET, &["v1", "platform", "regions"]).within(SHORT)).await
    }

    /// The API under host names of Fly.io.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn host_names(&self) -> Result<HostNames, Error> {
        self.json(self.call(Method::GET, &["v1", "platform", "host-names"]).within(SHORT)).await
    }

    /// Where new machines would be placed; nothing is reserved.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn placements(&self, ask: &AskPlacements) -> Result<Placements, Error> {
        let call = self.call(Method::POST, &["v1", "platform", "placements"]);
        self.json(call.within(SHORT).body(ask)).await
    }

    /// The hosts of the platform: what each has and uses.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn hosts(&self) -> Result<Vec<HostInfo>, Error> {
        self.json(self.call(Method::GET, &["v1", "platform", "hosts"]).within(SHORT)).await
    }
}
