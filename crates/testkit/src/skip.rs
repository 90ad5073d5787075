//! Tests that cannot run on this machine: they say so in one way, and fail where
//! everything has to run.

use std::ffi::OsStr;

/// What a test lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// Something that every machine of CI has, such as root: the skip is a failure
    /// there.
    Required,
    /// A device or a program that only some machines have, such as `/dev/kvm`.
    Optional,
}

/// Says that a test is skipped, and why; the test returns after it.
///
/// # Panics
/// In CI (the variable `CI` is set), unless what is lacking is optional.
pub fn skip(why: &str, lacks: Lacks) {
    println!("SKIPPED: {why}");
    let ci = std::env::var_os("CI");
    assert!(allowed(ci.as_deref(), lacks), "nothing may be skipped in CI: {why}");
}

fn allowed(ci: Option<&OsStr>, lacks: Lacks) -> bool {
    let in_ci = ci.is_some_and(|value| !value.is_empty() && value != "false");
    !in_ci || lacks == Lacks::Optional
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_ci_only_what_is_optional_is_skipped() {
        for (ci, lacks, may) in [
            (None, Lacks::Required, true),
            (Some(""), Lacks::Required, true),
            (Some("false"), Lacks::Required, true),
            (Some("true"), Lacks::Required, false),
            (Some("true"), Lacks::Optional, true),
        ] {
            assert_eq!(allowed(ci.map(OsStr::new), lacks), may, "{ci:?} {lacks:?}");
        }
    }
}
