//! Calls of the platform's API whose parts are not built yet: 501 with the name of
//! the part, never 404, which clients take for "already gone".

use crate::Error;
use crate::access::{Subject, read};
use crate::http_api::table::Routes;

/// Paths and what they are part of, as the message begins.
const UNBUILT: &[(&str, &str)] = &[
    ("/v1/apps/{app}/volumes/{volume}/snapshots", "snapshots of volumes are"),
    ("/v1/apps/{app}/certificates", "certificates are"),
    ("/v1/apps/{app}/certificates/{*rest}", "certificates are"),
    ("/v1/apps/{app}/ip_assignments", "IP addresses of apps are"),
    ("/v1/apps/{app}/ip_assignments/{*rest}", "IP addresses of apps are"),
    ("/v1/apps/{app}/network_policies", "network policies are"),
    ("/v1/apps/{app}/network_policies/{*rest}", "network policies are"),
    ("/v1/apps/{app}/releases", "releases are"),
    ("/v1/apps/{app}/releases/{*rest}", "releases are"),
    ("/v1/postgres", "managed Postgres is"),
    ("/v1/postgres/{*rest}", "managed Postgres is"),
    ("/v1/tokens/kms", "key management tokens are"),
];

/// Paths of the builders that clients ask for by default.
const BUILDERS: &[&str] = &["/api/v1/builds/depot_builder", "/api/v1/organizations/{org}/builders"];

/// The paths of the parts that are not built.
pub(super) fn routes() -> Routes {
    let unbuilt = UNBUILT.iter().fold(Routes::below(""), |routes, (path, part)| {
        routes.any(path, read(Subject::Token), async move || Error::not_implemented(part))
    });
    BUILDERS
        .iter()
        .fold(unbuilt, |routes, path| routes.any(path, read(Subject::Token), async || no_builder()))
}

/// What a person sees whose client has no other way to build an image.
fn no_builder() -> Error {
    Error::not_implemented("builds of images on the platform are").hint(
        "deploy an image that exists with `--image`: one that a host can pull from its registry, \
         or one that was built with `docker build` and brought here with `docker save IMAGE | \
         updraft image import -`",
    )
}
