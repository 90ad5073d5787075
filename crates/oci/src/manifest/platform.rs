//! The choice among the manifests of an index: linux/amd64, in the highest
//! variant that the guest's CPU can run.

use crate::config::cpu_level::CpuLevel;
use crate::error::{Error, Result};
use crate::manifest::document::Descriptor;

/// The level that a manifest needs, if it is for guests with the CPU level
/// `guest`. A manifest without a platform may be for any; BuildKit lists
/// attestations with the platform `unknown`.
fn level(descriptor: &Descriptor, guest: CpuLevel) -> Option<CpuLevel> {
    let Some(platform) = &descriptor.platform else { return Some(CpuLevel::V1) };
    if platform.os != "linux" || platform.architecture != "amd64" {
        return None;
    }
    CpuLevel::of_variant(&platform.variant).filter(|level| *level <= guest)
}

/// Whether a manifest may be for guests with the CPU level `guest`.
pub(crate) fn fits(descriptor: &Descriptor, guest: CpuLevel) -> bool {
    level(descriptor, guest).is_some()
}

/// The manifests that fit, the best first: those with a platform before those
/// without, then by level, then in the order of the index.
///
/// # Errors
/// None fits; the message lists the platforms that the index offers.
pub(crate) fn candidates(listed: &[Descriptor], guest: CpuLevel) -> Result<Vec<&Descriptor>> {
    let mut fitting: Vec<_> = listed.iter().filter(|found| fits(found, guest)).collect();
    if fitting.is_empty() {
        let offered: Vec<_> = listed.iter().take(32).filter_map(shown).collect();
        let all = offered.join(", ");
        return Err(Error::refused(match &offered[..] {
            [] => "it holds no image for linux/amd64".to_owned(),
            some if some.iter().any(|platform| platform.starts_with("linux/amd64")) => {
                format!(
                    "none of its variants runs on a CPU of level {guest}, as guests have: {all}"
                )
            }
            _ => format!("it is not for linux/amd64, only for {all}"),
        }));
    }
    fitting.sort_by_key(|found| std::cmp::Reverse((found.platform.is_some(), level(found, guest))));
    Ok(fitting)
}

/// The manifests of a layout that fit, in its order, each with the best level
/// among those of its name: variants of one image have one name.
pub(crate) fn best_per_name(listed: &[Descriptor], guest: CpuLevel) -> Vec<&Descriptor> {
    let best = |name: Option<&str>| {
        let same = listed.iter().filter(|found| found.platform.is_some() && found.name() == name);
        same.filter_map(|found| level(found, guest)).max()
    };
    let chosen = |found: &&Descriptor| match level(found, guest) {
        Some(own) => found.platform.is_none() || Some(own) == best(found.name()),
        None => false,
    };
    listed.iter().filter(chosen).collect()
}

fn shown(descriptor: &Descriptor) -> Option<String> {
    let platform = descriptor.platform.as_ref()?;
    let variant = match platform.variant.as_str() {
        "" => String::new(),
        variant => format!("/{variant}"),
    };
    let text = format!("{}/{}{variant}", platform.os, platform.architecture);
    Some(text.chars().filter(|c| !c.is_control()).take(60).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::document::Platform;

    fn index(listed: &[&str]) -> Vec<Descriptor> {
        let descriptor = |text: &&str| {
            let mut parts = text.split('/').map(str::to_owned);
            let (os, architecture) = (parts.next().unwrap(), parts.next().unwrap_or_default());
            let variant = parts.next().unwrap_or_default();
            let platform = Platform { os, architecture, variant };
            let platform = (*text != "none").then_some(platform);
            Descriptor { digest: (*text).to_owned(), platform, ..Descriptor::default() }
        };
        listed.iter().map(descriptor).collect()
    }

    #[test]
    fn the_highest_variant_that_the_guest_runs_comes_first() {
        let listed = [
            "none",
            "linux/arm64/v8",
            "linux/amd64/v4",
            "linux/amd64/v3",
            "linux/amd64/v2",
            "linux/amd64",
            "windows/amd64",
            "unknown/unknown",
            "linux/amd64/v9",
        ];
        let listed = index(&listed);
        let first = |guest| {
            let found = candidates(&listed, guest).unwrap();
            (found[0].digest.clone(), found.len())
        };
        assert_eq!(first(CpuLevel::V1), ("linux/amd64".into(), 2));
        assert_eq!(first(CpuLevel::V2), ("linux/amd64/v2".into(), 3));
        assert_eq!(first(CpuLevel::V3), ("linux/amd64/v3".into(), 4));
        assert_eq!(first(CpuLevel::V4), ("linux/amd64/v4".into(), 5));
        let names: Vec<_> = best_per_name(&listed, CpuLevel::V2);
        let names: Vec<_> = names.iter().map(|found| found.digest.as_str()).collect();
        assert_eq!(names, ["none", "linux/amd64/v2"]);
    }

    #[test]
    fn an_index_without_a_fitting_image_is_refused_with_its_platforms() {
        let refused = |listed: &[&str]| match candidates(&index(listed), CpuLevel::V2) {
            Err(Error::Refused(problem)) => problem,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            refused(&["linux/arm64/v8", "linux/amd64/v3"]),
            "none of its variants runs on a CPU of level x86-64-v2, as guests have: linux/arm64/v8, linux/amd64/v3"
        );
        assert_eq!(refused(&["linux/arm64"]), "it is not for linux/amd64, only for linux/arm64");
        assert_eq!(refused(&[]), "it holds no image for linux/amd64");
    }
}
