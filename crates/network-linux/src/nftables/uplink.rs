//! The nftables rules of the uplink in the daemon's own namespace.
//!
//! They masquerade what leaves the host and keep the link from being used for
//! anything but the guests' own flows. The isolation of the guests does not
//! depend on them: it is in the platform's namespace, out of reach of the host's
//! tools. Our chains only ever drop: an `accept` here ends this table's
//! evaluation, not that of the operator's tables.

use super::batch::{Batch, HOOK_FORWARD, HOOK_INPUT, HOOK_POSTROUTING, Hook};
use super::expr::Expr;
use super::matches::{
    ACCEPT, CLAMP_MSS, DROP, ct_established, iifname, oifname, oifname_not, rule, saddr_not,
};
use crate::config::{Cidr, NetworkConfig, Tag};

const CHAINS: [(&str, Hook); 3] = [
    ("input", Hook { kind: "filter", number: HOOK_INPUT, priority: -10, drop: false }),
    ("forward", Hook { kind: "filter", number: HOOK_FORWARD, priority: -10, drop: false }),
    ("postrouting", Hook { kind: "nat", number: HOOK_POSTROUTING, priority: 100, drop: false }),
];

/// Name of the table.
pub(crate) fn table(tag: Tag) -> String {
    format!("updraft_{tag}_uplink")
}

/// Creates the table, or replaces its rules. Packets from the link have sources
/// in `sources`.
pub(crate) fn create(config: &NetworkConfig, link: &str, sources: &[Cidr]) -> Batch {
    let (from, to) = (iifname(link), oifname(link));
    let mut batch = Batch::new(table(config.tag));
    batch.create_table();
    for (name, hook) in CHAINS {
        batch.create_base_chain(name, hook);
        batch.flush(name);
    }
    // No guest reaches the host itself.
    batch.rule("input", &rule(&[&from, &DROP]));
    for source in sources {
        batch.rule("forward", &rule(&[&from, &saddr_not(*source), &DROP]));
    }
    // The MTU of the host's interface may be smaller than that of the link.
    batch.rule("forward", &rule(&[&from, &CLAMP_MSS]));
    batch.rule("forward", &rule(&[&to, &CLAMP_MSS]));
    batch.rule("forward", &rule(&[&to, &ct_established(), &[ACCEPT]]));
    batch.rule("forward", &rule(&[&to, &DROP]));
    if config.masquerade {
        let out = oifname_not(link);
        batch.rule("postrouting", &rule(&[&from, &out, &[Expr::Masquerade]]));
    }
    batch
}

/// Deletes the table, whether it exists or not.
pub(crate) fn remove(tag: Tag) -> Batch {
    Batch::removal(table(tag))
}
