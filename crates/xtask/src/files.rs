//! Every file opens with its purpose and stays within its size.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Lines without tests; from here on a file has to be reshaped.
const MOST_LINES: usize = 500;

pub(crate) fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(dir).expect("a directory of ours can be read");
    for entry in entries.map(|entry| entry.expect("an entry can be read").path()) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&entry, found);
        } else if name.ends_with(".rs") {
            found.push(entry);
        }
    }
}

/// Files of one folder; from here on it has to be divided by subject.
const MOST_FILES: usize = 12;
/// Folders with one file per command or per endpoint: long because they are lists.
const ONE_FILE_EACH: &[&str] =
    &["crates/cli/src/commands/machine", "crates/control/src/http_api/endpoints"];
/// Folders that are still to be divided. Only ever shorter.
const TO_BE_DIVIDED: &[&str] = &[];

/// The mark of a test that was not run; `testkit` prints it, and fails in CI.
const SKIPS: &str = concat!("SKIP", "PED");
/// The one file that may print it.
const SKIP_HELPER: &str = "crates/testkit/src/skip.rs";
/// Files that still print it by themselves. Only ever shorter.
const SKIPS_BY_HAND: &[&str] = &[];

fn all() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for dir in ["crates", "examples", "bench"] {
        sources(&crate::root().join(dir), &mut found);
    }
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source can be read");
        (path, text)
    };
    found.into_iter().map(read).collect()
}

#[test]
fn every_file_opens_with_what_it_is() {
    let bare: Vec<_> = all()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path)
        .collect();
    assert!(bare.is_empty(), "files that do not open with //!: {bare:#?}");
}

#[test]
fn no_file_is_too_long() {
    let code = |text: &str| {
        let lines = text.lines().position(|line| line.starts_with("#[cfg(test)]"));
        lines.unwrap_or_else(|| text.lines().count())
    };
    let long: Vec<_> = all()
        .into_iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| (path, code(&text)))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .collect();
    assert!(long.is_empty(), "files of more than {MOST_LINES} lines: {long:#?}");
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let marks = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME")];
    for (path, text) in all() {
        for mark in marks {
            assert!(!text.contains(mark), "{} contains {mark}", path.display());
        }
    }
}

#[test]
fn no_folder_has_too_many_files() {
    let mut folders: BTreeMap<String, usize> = BTreeMap::new();
    for (path, _) in all() {
        let folder = relative(path.parent().unwrap_or(&path));
        if folder.contains("/src") && !is_test(&path) {
            *folders.entry(folder).or_default() += 1;
        }
    }
    let full = folders.into_iter().filter(|(_, count)| *count > MOST_FILES);
    let full: Vec<String> = full.map(|(folder, _)| folder).collect();
    let full: Vec<String> =
        full.into_iter().filter(|folder| !ONE_FILE_EACH.contains(&folder.as_str())).collect();
    held("folders with more than 12 source files", &full, TO_BE_DIVIDED);
}

#[test]
fn skipped_tests_are_reported_in_one_way() {
    let prints = |(path, text): &(PathBuf, String)| {
        let name = relative(path);
        (name != SKIP_HELPER && text.contains(SKIPS)).then_some(name)
    };
    let found: Vec<String> = all().iter().filter_map(prints).collect();
    held("files that skip tests by hand; use testkit's helper", &found, SKIPS_BY_HAND);
}

/// Nothing is found but what is on the list, and nothing on the list is solved.
fn held(what: &str, found: &[String], listed: &[&str]) {
    let new: Vec<_> = found.iter().filter(|name| !listed.contains(&name.as_str())).collect();
    assert!(new.is_empty(), "{what}: {new:#?}");
    let solved: Vec<_> =
        listed.iter().filter(|name| !found.iter().any(|one| one == *name)).collect();
    assert!(solved.is_empty(), "take these off the list, they are in order: {solved:#?}");
}

fn relative(path: &Path) -> String {
    path.strip_prefix(crate::root()).unwrap_or(path).display().to_string()
}

/// Tables of tests are as long as what they cover.
pub(crate) fn is_test(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with("_tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}
