//! Tests that cannot run on this machine: they report it in one way, and fail where
//! everything has to run.
//!
//! The output of a test that passes is not shown, so each skip is also a line of the
//! file that `UPDRAFT_SKIPPED` names; `make test` prints that file at its end.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

/// The thing that a test lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// Something that every machine of CI has, such as root: the skip is a failure
    /// there.
    Required,
    /// A device or a program that only some machines have, such as `/dev/kvm`.
    Optional,
}

/// Reports that a test, or a part of it, is skipped, and why; the test leaves it out
/// after this call.
///
/// # Panics
/// In CI (the variable `CI` is set), unless what is lacking is optional; and if the
/// file that `UPDRAFT_SKIPPED` names cannot be written.
pub fn skip(why: &str, lacks: Lacks) {
    let ci = std::env::var_os("CI");
    let line = line(std::thread::current().name(), why, lacks);
    print!("{line}");
    if let Some(file) = std::env::var_os("UPDRAFT_SKIPPED").filter(|file| !file.is_empty()) {
        let written = append(Path::new(&file), &line);
        written.unwrap_or_else(|err| panic!("append to {file:?} (UPDRAFT_SKIPPED): {err}"));
    }
    assert!(allowed(ci.as_deref(), lacks), "nothing may be skipped in CI: {why}");
}

/// The name of the skipped test: libtest names the thread of a test after the test.
fn line(test: Option<&str>, why: &str, lacks: Lacks) -> String {
    let kind = match lacks {
        Lacks::Required => "",
        Lacks::Optional => " (optional)",
    };
    // Without threads of their own, tests run on the main thread.
    let test = test.filter(|name| *name != "main").map(|name| format!(" {name}:"));
    format!("SKIPPED{kind}:{} {why}\n", test.unwrap_or_default())
}

/// One write to a file opened for appending: lines of processes that run at once do
/// not mix.
fn append(file: &Path, line: &str) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())
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

    #[test]
    fn a_skip_names_the_test_the_reason_and_whether_it_is_optional() {
        let why = "there is no /dev/kvm";
        let all = [
            (Some("boots"), Lacks::Optional, "SKIPPED (optional): boots: there is no /dev/kvm\n"),
            (Some("boots"), Lacks::Required, "SKIPPED: boots: there is no /dev/kvm\n"),
            (Some("main"), Lacks::Required, "SKIPPED: there is no /dev/kvm\n"),
            (None, Lacks::Optional, "SKIPPED (optional): there is no /dev/kvm\n"),
        ];
        for (test, lacks, want) in all {
            assert_eq!(line(test, why, lacks), want);
        }
    }

    #[test]
    fn skips_are_collected_in_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("skipped");
        append(&file, "SKIPPED: a\n").unwrap();
        append(&file, "SKIPPED: b\n").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "SKIPPED: a\nSKIPPED: b\n");
        assert!(append(dir.path(), "SKIPPED: c\n").is_err(), "a directory is no such file");
    }
}
