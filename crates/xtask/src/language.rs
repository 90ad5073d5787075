//! Comments, names and texts are plain English for a reader of this repository alone.

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

/// Words of private or archaic language, with what to write instead.
const WORDS: &[(&[&str], &str)] = &[
    (&["tell", "tells", "told", "telling"], "send, notify, report, distinguish"),
    (&["hear", "hears", "heard"], "receive"),
    (&["speak", "speaks", "spoke", "spoken"], "use, support, connect to"),
    (&["nobody", "anybody", "somebody", "whoever"], "the noun: caller, client, operator"),
    (&["wish", "wishes", "wished"], "request, desired state"),
    (&["obey", "obeys", "herald", "hush"], "dispatch, notifier, quiesce"),
    (&["farewell", "epitaph"], "close timeout, end of the console"),
    (&["anew", "lest"], "again, so that not"),
];
/// The same for Rust sources only: pages of the documentation may use them.
const WORDS_OF_CODE: &[(&[&str], &str)] =
    &[(&["say", "says", "said", "saying"], "have, report, show, name")];
/// The same for pairs of words.
const PAIRS: &[(&[&str], &str)] = &[
    (&["goes on", "go on", "gone on", "going on", "went on"], "continue, resume, keep running"),
    (&["stands still", "stand still", "stood still"], "is paused"),
    (&["knows of", "know of"], "the noun: view, record"),
    (&["for ever"], "without limit, endlessly"),
    (&["last words"], "end of the console"),
];
/// This file has the lists.
const LISTS: &str = "crates/xtask/src/language.rs";

/// The words of a line in lower case; `snake_case` and `CamelCase` names are several.
fn words(line: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut after_lower = false;
    for c in line.chars() {
        if !c.is_ascii_alphabetic() || (c.is_ascii_uppercase() && after_lower) {
            found.push(String::new());
        }
        if c.is_ascii_alphabetic()
            && let Some(word) = found.last_mut()
        {
            word.push(c.to_ascii_lowercase());
        }
        after_lower = c.is_ascii_lowercase();
    }
    found.retain(|word| !word.is_empty());
    found
}

/// The first banned word or pair of a line, and what to write instead.
fn banned(line: &str, is_code: bool) -> Option<String> {
    let words = words(line);
    let listed = |lists: &[(&[&str], &str)], text: &str| {
        let hit = lists.iter().find(|(list, _)| list.contains(&text));
        hit.map(|(_, instead)| format!("{text:?}, better: {instead}"))
    };
    let single = |word: &String| {
        let code = || is_code.then(|| listed(WORDS_OF_CODE, word)).flatten();
        listed(WORDS, word).or_else(code)
    };
    let pair = |pair: &[String]| listed(PAIRS, &pair.join(" "));
    words.iter().find_map(single).or_else(|| words.windows(2).find_map(pair))
}

#[test]
fn names_comments_and_texts_are_plain_english() {
    let mut found = Vec::new();
    texts(&crate::root(), &mut found);
    let mut hits = Vec::new();
    for path in found {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let name = path.strip_prefix(crate::root()).unwrap_or(&path).display().to_string();
        let is_code = name.ends_with(".rs");
        let hit = |(at, line)| banned(line, is_code).map(|hit| format!("{name}:{}: {hit}", at + 1));
        if name != LISTS {
            hits.extend(text.lines().enumerate().filter_map(hit));
        }
    }
    assert!(hits.is_empty(), "write it in plain technical English: {hits:#?}");
}

#[test]
fn banned_words_are_found_in_names_and_comments_but_not_within_words() {
    for (line, hit) in [
        ("/// Nobody reads it.", Some("nobody")),
        ("fn tell_guest() {}", Some("tell")),
        ("struct LastWords;", Some("last words")),
        ("let goesOn = 1;", Some("goes on")),
        ("//! The VM goes on.", Some("goes on")),
        ("/// The intelligent foretold heartbeat, foregone; it goes to one.", None),
    ] {
        let found = banned(line, true);
        let starts = |text: &String| hit.is_some_and(|hit| text.starts_with(&format!("{hit:?}")));
        assert_eq!(found.is_some(), hit.is_some(), "{line}: {found:?}");
        assert!(found.iter().all(starts), "{line}: {found:?}");
    }
    assert!(banned("/// What it says.", true).is_some());
    assert!(banned("As the page says.", false).is_none());
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
fn a_citation_is_distinguished_from_a_code() {
    // Put together, since this file is looked at as well.
    let code = format!("{}{}", 'Q', "021");
    assert_eq!(citation(&format!("kept ({code}).")), Some(code.clone()));
    assert_eq!(citation(&format!("as {code} has it")), Some(code));
    for text in ["PR01", "UR02 is it", "0xABCD", "SHA256", "R12", "A1234", "x_B1"] {
        assert_eq!(citation(text), None, "{text}");
    }
}
