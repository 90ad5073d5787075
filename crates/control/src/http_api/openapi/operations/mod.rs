//! Every call of the API, one file per subject. A route without a description here fails the
//! test `openapi::routes_and_document_agree`.

mod apps;
mod machines;
mod orgs;
mod parts;
mod platform;
mod releases;
mod secrets;
mod tokens;
mod volumes;

use super::operation::Operation;

/// Subjects with what they are about and their calls.
pub(super) fn all() -> Vec<(&'static str, &'static str, Vec<Operation>)> {
    vec![
        ("Apps", "An app belongs to an organization and has machines.", apps::all()),
        ("Machines", "A machine is a VM that keeps its id for life.", machines::all()),
        (
            "Parts of a machine",
            "Events, versions, checks, labels, leases, commands and processes of a machine.",
            parts::all(),
        ),
        (
            "Secrets",
            "Values that machines are given at their start, and keys that never leave the platform.",
            secrets::all(),
        ),
        ("Volumes", "Disks that outlive the machines that use them.", volumes::all()),
        (
            "Releases",
            "What an app was to run, in which version, and how far that came; and builds of images. \
             Clients carry them out and record them.",
            releases::all(),
        ),
        ("Organizations", "What belongs together in a platform.", orgs::all()),
        ("Tokens", "Tokens of a request, and those of machines.", tokens::all()),
        ("Platform", "Hosts, regions and images.", platform::all()),
    ]
}
