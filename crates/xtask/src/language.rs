//! What is written can be understood by a reader who has this repository only.

use std::path::{Path, PathBuf};

/// Files whose texts are looked at.
const KINDS: &[&str] = &["rs", "md", "toml", "py", "sh", "service"];
/// A letter with three digits is the number of a paragraph that only insiders can
/// look up. Codes of the edge have two letters (PR01, UR02), so they are none.
fn citation(text: &str) -> Option<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let tokens = text.split(|c| !word(c));
    let coded = |token: &&str| {
        let digits = token.strip_prefix(|c: char| c.is_ascii_uppercase());
        digits.is_some_and(|rest| rest.len() == 3 && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    tokens.into_iter().find(coded).map(str::to_owned)
}

fn texts(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(dir).expect("a directory of ours can be read");
    for entry in entries.map(|entry| entry.expect("an entry can be read").path()) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kind = name.rsplit_once('.').map_or("", |(_, kind)| kind);
        // Where things are built, and what tools keep for themselves.
        let skipped = name.starts_with('.') || name.starts_with("target");
        if entry.is_dir() && !skipped {
            texts(&entry, found);
        } else if KINDS.contains(&kind) {
            found.push(entry);
        }
    }
}

#[test]
fn nothing_cites_what_readers_cannot_open() {
    let mut found = Vec::new();
    texts(&crate::root(), &mut found);
    let mut cited = Vec::new();
    for path in found {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let name = path.strip_prefix(crate::root()).unwrap_or(&path).display().to_string();
        cited.extend(text.lines().enumerate().filter_map(|(at, line)| {
            citation(line).map(|code| format!("{name}:{}: {code}", at + 1))
        }));
    }
    assert!(cited.is_empty(), "cite a public document instead: {cited:#?}");
}

#[test]
fn a_citation_is_told_from_a_code() {
    // Put together, since this file is looked at as well.
    let code = format!("{}{}", 'Q', "021");
    assert_eq!(citation(&format!("kept ({code}).")), Some(code.clone()));
    assert_eq!(citation(&format!("as {code} has it")), Some(code));
    for text in ["PR01", "UR02 says so", "0xABCD", "SHA256", "R12", "A1234", "x_B1"] {
        assert_eq!(citation(text), None, "{text}");
    }
}
