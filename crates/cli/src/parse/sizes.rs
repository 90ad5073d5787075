//! Sizes of VMs: presets and memory in words.

use wire::machines::Guest;

/// Presets by kind: name, MiB per vCPU at least, numbers of vCPUs.
const PRESETS: &[(&str, u32, &[u32])] =
    &[("shared", 256, &[1, 2, 4, 6, 8]), ("performance", 2048, &[1, 2, 4, 6, 8, 10, 12, 14, 16])];

/// All presets, by name, the smallest of each kind first.
pub(crate) fn presets() -> impl Iterator<Item = (String, Guest)> {
    PRESETS.iter().flat_map(|(kind, per_cpu, sizes)| {
        sizes.iter().map(move |&cpus| {
            let guest = Guest {
                cpu_kind: Some((*kind).to_owned()),
                cpus: Some(cpus),
                memory_mb: Some(cpus * per_cpu),
                ..Guest::default()
            };
            (name_of(kind, cpus), guest)
        })
    })
}

/// The guest that a preset such as `shared-cpu-2x` or `performance-4x` means.
pub(crate) fn preset(name: &str) -> Result<Guest, String> {
    if let Some((_, guest)) = presets().find(|(known, _)| known == name) {
        return Ok(guest);
    }
    let all: Vec<String> = presets().map(|(name, _)| name).collect();
    Err(format!("there is no size {name:?}; there are {}", all.join(", ")))
}

/// `shared-cpu-1x:256MB`, as lists show it.
pub(crate) fn size_name(guest: &Guest) -> String {
    let kind = guest.cpu_kind.as_deref().unwrap_or("shared");
    let memory = guest.memory_mb.unwrap_or(256);
    format!("{}:{memory}MB", name_of(kind, guest.cpus.unwrap_or(1)))
}

fn name_of(kind: &str, cpus: u32) -> String {
    match kind {
        "shared" => format!("shared-cpu-{cpus}x"),
        kind => format!("{kind}-{cpus}x"),
    }
}

/// MiB from plain MiB (`512`) or human units (`512MB`, `1gb`, `1.5GiB`), which
/// are powers of 1024 with or without the `i`.
pub(crate) fn memory_mib(text: &str) -> Result<u32, String> {
    let bad = || format!("{text:?} is no amount of memory; write 512, 512MB or 1GB");
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().map_err(|_| bad())?;
    let mib = match text[end..].trim().to_ascii_lowercase().as_str() {
        "" | "m" | "mb" | "mib" => number,
        "k" | "kb" | "kib" => number / 1024.0,
        "g" | "gb" | "gib" => number * 1024.0,
        "t" | "tb" | "tib" => number * 1024.0 * 1024.0,
        _ => return Err(bad()),
    };
    if mib.fract() != 0.0 || mib < 1.0 || mib > f64::from(u32::MAX) {
        return Err(format!("{text:?} is no whole number of MB"));
    }
    Ok(mib as u32)
}

/// GB from a plain number (`10`) or with a unit (`10gb`, `10240MB`).
pub(crate) fn whole_gib(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.trim().parse::<u32>() {
        return Ok(number);
    }
    let bad = || format!("{text:?} is no whole number of GB; write 10 or 10GB");
    let mib = memory_mib(text).map_err(|_| bad())?;
    if mib.is_multiple_of(1024) { Ok(mib / 1024) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_by_the_table() {
        for (text, mib) in [
            ("256", Some(256)),
            ("512MB", Some(512)),
            ("512mib", Some(512)),
            ("1gb", Some(1024)),
            ("1.5 GiB", Some(1536)),
            ("2g", Some(2048)),
            ("2048k", Some(2)),
            ("0", None),
            ("0.5", None),
            ("", None),
            ("x", None),
            ("1xb", None),
            ("-1", None),
            ("99999999t", None),
        ] {
            assert_eq!(memory_mib(text).ok(), mib, "{text}");
        }
    }

    #[test]
    fn whole_gigabytes_with_and_without_a_unit() {
        for (text, gib) in [
            ("10", Some(10)),
            ("10gb", Some(10)),
            ("10 GiB", Some(10)),
            ("2048MB", Some(2)),
            ("1.5gb", None),
            ("100mb", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(whole_gib(text).ok(), gib, "{text}");
        }
    }

    #[test]
    fn presets_have_their_least_memory() {
        for (name, shown) in [
            ("shared-cpu-1x", "shared-cpu-1x:256MB"),
            ("shared-cpu-8x", "shared-cpu-8x:2048MB"),
            ("performance-2x", "performance-2x:4096MB"),
        ] {
            assert_eq!(size_name(&preset(name).unwrap()), shown);
        }
        assert!(preset("shared-cpu-3x").unwrap_err().contains("shared-cpu-2x"));
    }
}
