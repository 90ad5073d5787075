//! Operations of parts that are not built: each is refused with the name of its part.

use crate::Error;

/// Operations, and what they are part of, as the message begins.
const UNBUILT: &[(&str, &str)] = &[
    ("postgresAttachments", "Postgres clusters are"),
    ("attachPostgresCluster", "Postgres clusters are"),
    ("detachPostgresCluster", "Postgres clusters are"),
    ("enablePostgresConsul", "Consul is"),
    ("addOn", "extensions are"),
    ("addOns", "extensions are"),
    ("addOnProvider", "extensions are"),
    ("moveApp", "moves of apps are"),
    ("lockApp", "locks of apps are"),
    ("unlockApp", "locks of apps are"),
    ("allocateIpAddress", "IP addresses of apps are"),
    ("releaseIpAddress", "IP addresses of apps are"),
    ("allocateEgressIpAddress", "egress IP addresses are"),
    ("releaseEgressIpAddress", "egress IP addresses are"),
    ("createDelegatedWireGuardToken", "delegated tokens for WireGuard peers are"),
    ("deleteDelegatedWireGuardToken", "delegated tokens for WireGuard peers are"),
    ("issueCertificate", "SSH certificates are"),
    ("addAllowedReplaySourceOrgs", "replays between organizations are"),
    ("removeAllowedReplaySourceOrgs", "replays between organizations are"),
    ("setAllowAllCrossNetworkReplays", "replays between organizations are"),
    ("createDoctorUrl", "uploads of reports are"),
];

/// The error of an operation whose part is not built, or that the schema does not have.
pub(super) fn unbuilt(operation: &str) -> Error {
    let known = UNBUILT.iter().find(|(name, _)| *name == operation);
    match known {
        Some((_, part)) => Error::not_implemented(part),
        None => Error::internal(format!("the schema has no field {operation}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn an_operation_names_its_part() {
        let err = unbuilt("addOn");
        assert_eq!(
            (err.kind, &*err.message),
            (Kind::NotImplemented, "extensions are not supported yet")
        );
        assert_eq!(unbuilt("viewer").kind, Kind::Internal);
    }
}
