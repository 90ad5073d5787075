//! Every file says what it is and stays within its size.

use std::path::{Path, PathBuf};

/// Lines without tests; from here on a file has to be reshaped.
const MOST_LINES: usize = 500;

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
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

/// Tables of tests are as long as what they cover.
fn is_test(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with("_tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}
