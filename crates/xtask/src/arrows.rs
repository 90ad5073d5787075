//! The picture of the crates in ARCHITECTURE.md, held against cargo's metadata.

use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use std::collections::{BTreeMap, BTreeSet};

type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The crates of ours that each crate imports, tests left out.
fn actual() -> Arrows {
    let metadata = MetadataCommand::new().current_dir(crate::root()).no_deps().exec();
    let metadata = metadata.expect("cargo metadata works");
    let ours: BTreeSet<String> = metadata.packages.iter().map(|p| p.name.to_string()).collect();
    let imports = |package: &Package| {
        let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
        normal.map(|d| d.name.clone()).filter(|name| ours.contains(name)).collect()
    };
    metadata.packages.iter().map(|p| (p.name.to_string(), imports(p))).collect()
}

/// The rows "| `crate` | … | `a` `b` |" of the table.
fn drawn() -> Arrows {
    let text = std::fs::read_to_string(crate::root().join("ARCHITECTURE.md"));
    let text = text.expect("ARCHITECTURE.md is there");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let of_crates = cells.filter(|cells| cells.len() == 5);
    let names = |cell: &str| -> BTreeSet<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    of_crates.map(|cells| (cells[1].trim_matches('`').to_owned(), names(cells[3]))).collect()
}

#[test]
fn every_import_is_in_the_picture() {
    let (actual, drawn) = (actual(), drawn());
    let missing: Vec<_> = actual.keys().filter(|name| !drawn.contains_key(*name)).collect();
    assert!(missing.is_empty(), "crates without a row in ARCHITECTURE.md: {missing:?}");
    for (name, allowed) in &drawn {
        let imports = actual.get(name).unwrap_or_else(|| panic!("there is no crate {name}"));
        let strange: Vec<_> = imports.difference(allowed).collect();
        assert!(
            strange.is_empty(),
            "{name} imports {strange:?}, which ARCHITECTURE.md does not allow"
        );
    }
}

#[test]
fn services_and_adapters_do_not_know_each_other() {
    let actual = actual();
    let services = ["control", "worker", "edge", "dns"];
    let adapters =
        ["store-sqlite", "store-etcd", "vmm-qemu", "oci", "network-linux", "disk-linux", "cli"];
    for (name, imports) in &actual {
        let of = |group: &[&str]| imports.iter().filter(|i| group.contains(&i.as_str())).count();
        if services.contains(&name.as_str()) {
            assert_eq!(of(&services) + of(&adapters), 0, "{name} imports a service or an adapter");
        }
        if adapters.contains(&name.as_str()) {
            assert_eq!(of(&adapters), 0, "{name} imports another adapter");
        }
        if ["model", "wire", "rt"].contains(&name.as_str()) {
            assert!(imports.is_empty(), "{name} is a leaf but imports {imports:?}");
        }
    }
}
