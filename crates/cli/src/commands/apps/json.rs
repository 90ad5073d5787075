//! An app as JSON, by the names that flyctl gives its fields.

use serde::Serialize;
use wire::machines::{App, Organization};

/// An app.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AppJson<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    deployed: bool,
    status: &'a str,
    hostname: &'a str,
    #[serde(rename = "AppURL")]
    app_url: String,
    organization: OrganizationJson<'a>,
    platform_version: &'static str,
    network: &'a str,
    version: u64,
}

/// The organisation that owns it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct OrganizationJson<'a> {
    name: &'a str,
    slug: &'a str,
    #[serde(rename = "InternalNumericID")]
    internal_numeric_id: i32,
}

impl<'a> From<&'a App> for AppJson<'a> {
    fn from(app: &'a App) -> Self {
        let hostname = app.hostname.as_deref().unwrap_or_default();
        let Organization { name, slug, internal_numeric_id } = &app.organization;
        let internal_numeric_id = *internal_numeric_id;
        Self {
            id: &app.id,
            name: &app.name,
            deployed: app.status == "deployed",
            status: &app.status,
            hostname,
            app_url: url(app).unwrap_or_default(),
            organization: OrganizationJson { name, slug, internal_numeric_id },
            platform_version: "machines",
            network: &app.network,
            version: 0,
        }
    }
}

/// Where the edge answers for the app.
pub(crate) fn url(app: &App) -> Option<String> {
    let hostname = app.hostname.as_deref().filter(|name| !name.is_empty())?;
    Some(format!("http://{hostname}"))
}
