//! Calls of the platform's API whose parts are not built yet: 501 with the name of
//! the part, never 404, which clients take for "already gone".

use crate::Error;
use crate::access::{Subject, read};
use crate::http_api::table::Routes;

/// Paths and what they are part of, as the message begins.
const UNBUILT: &[(&str, &str)] = &[
    ("/v1/apps/{app}/volumes", "volumes are"),
    ("/v1/apps/{app}/volumes/{*rest}", "volumes are"),
    ("/v1/apps/{app}/certificates", "certificates are"),
    ("/v1/apps/{app}/certificates/{*rest}", "certificates are"),
    ("/v1/apps/{app}/ip_assignments", "IP addresses of apps are"),
    ("/v1/apps/{app}/ip_assignments/{*rest}", "IP addresses of apps are"),
    ("/v1/apps/{app}/network_policies", "network policies are"),
    ("/v1/apps/{app}/network_policies/{*rest}", "network policies are"),
    ("/v1/apps/{app}/releases", "releases are"),
    ("/v1/apps/{app}/releases/{*rest}", "releases are"),
    ("/v1/orgs/{org}/volumes", "volumes are"),
    ("/v1/postgres", "managed Postgres is"),
    ("/v1/postgres/{*rest}", "managed Postgres is"),
    ("/api/v1/apps/{app}/releases", "releases are"),
    ("/api/v1/apps/{app}/releases/{*rest}", "releases are"),
    ("/api/v1/releases", "releases are"),
    ("/api/v1/releases/{*rest}", "releases are"),
    ("/api/v1/builds", "builds are"),
    ("/api/v1/builds/{*rest}", "builds are"),
    ("/v1/tokens/kms", "key management tokens are"),
];

/// The paths of the parts that are not built.
pub(super) fn routes() -> Routes {
    UNBUILT.iter().fold(Routes::below(""), |routes, (path, part)| {
        routes.any(path, read(Subject::Token), async move || Error::not_implemented(part))
    })
}
