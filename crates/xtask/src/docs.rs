//! Documents agree with the code: commands, links and test names in them exist.

use std::collections::BTreeSet;
use std::path::PathBuf;

fn read(name: &str) -> String {
    let text = std::fs::read_to_string(crate::root().join(name));
    text.unwrap_or_else(|err| panic!("{name} can be read: {err}"))
}

/// Pages that users read.
fn pages() -> Vec<(String, String)> {
    let mut found: Vec<PathBuf> = vec!["README.md".into(), "SECURITY.md".into()];
    for dir in ["docs", "docs/api"] {
        let entries = std::fs::read_dir(crate::root().join(dir)).expect("docs/ is there");
        let paths = entries.map(|entry| entry.expect("an entry can be read").file_name());
        let pages = paths.filter(|name| name.to_string_lossy().ends_with(".md"));
        found.extend(pages.map(|name| PathBuf::from(dir).join(name)));
    }
    found.sort();
    let named = found.into_iter().map(|path| path.display().to_string());
    named.map(|name| (read(&name), name)).map(|(text, name)| (name, text)).collect()
}

/// Commands by their headings in docs/cli.md, which is made from the parser.
fn commands() -> BTreeSet<String> {
    let page = read("docs/cli.md");
    let headings = page.lines().filter_map(|line| line.strip_prefix("## updraft "));
    headings.map(str::to_owned).chain(["help".to_owned()]).collect()
}

/// Other names of commands, as docs/cli.md shows them.
const ALIASES: &[(&str, &str)] = &[("m", "machine"), ("machines", "machine"), ("app", "apps")];

#[test]
fn commands_in_the_documents_exist() {
    let commands = commands();
    let mut unknown = Vec::new();
    for (name, text) in pages() {
        // Its own table of what is absent names commands that are not there.
        if name == "docs/cli.md" {
            continue;
        }
        for (at, found) in text.match_indices("updraft ") {
            // A crate, not the program.
            if text[..at].ends_with("-p ") {
                continue;
            }
            let part = &text[at + found.len()..];
            let words = part.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).take(2);
            // What begins with a dash is a flag.
            let words: Vec<&str> =
                words.map(|word| if word.starts_with('-') { "" } else { word }).collect();
            let first = words[0];
            let first = ALIASES.iter().find(|(a, _)| *a == first).map_or(first, |(_, name)| name);
            let group = commands.iter().any(|command| command.starts_with(&format!("{first} ")));
            let in_code = part.chars().next().is_some_and(|c| c.is_ascii_lowercase());
            let both = format!("{first} {}", words.get(1).copied().unwrap_or_default());
            let known = if group { commands.contains(&both) } else { commands.contains(first) };
            if in_code && !known && !(group && words.get(1).is_none_or(|word| word.is_empty())) {
                unknown.push(format!("{name}: updraft {both}"));
            }
        }
    }
    assert!(unknown.is_empty(), "commands that do not exist: {unknown:#?}");
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for (name, text) in pages() {
        let here = crate::root().join(&name);
        let dir = here.parent().expect("a page is in a folder");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let target = if path.is_empty() { here.clone() } else { dir.join(path) };
            let there = target.exists();
            let anchored = anchor.is_empty()
                || std::fs::read_to_string(&target).is_ok_and(|text| has_anchor(&text, anchor));
            if !there || !anchored {
                broken.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
}

/// A heading whose anchor, as GitHub makes it, is this one.
fn has_anchor(text: &str, anchor: &str) -> bool {
    let slug = |heading: &str| -> String {
        let kept = heading.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| line.trim_start_matches('#')).any(|heading| slug(heading) == anchor)
}

#[test]
fn tests_named_in_the_guarantees_exist() {
    let mut sources = Vec::new();
    crate::files::sources(&crate::root().join("crates"), &mut sources);
    let tests: Vec<String> = sources
        .iter()
        .map(|path| std::fs::read_to_string(path).expect("a source can be read"))
        .collect();
    let page = read("docs/spec.md");
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let last = rows.filter_map(|line| line.trim_end_matches([' ', '|']).rsplit(" | ").next());
    let words = last.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let is_test = |word: &&str| {
        word.contains('_') && word.bytes().all(|b| b == b'_' || b.is_ascii_lowercase())
    };
    let named: BTreeSet<&str> = words.filter(is_test).collect();
    assert!(named.len() > 40, "the page names its tests: {named:?}");
    // A function, or the name of one in a list of tests.
    let exists = |name: &&str| {
        let forms = [format!("fn {name}("), format!("fn {name}<"), format!("\"{name}\"")];
        tests.iter().any(|text| forms.iter().any(|form| text.contains(form)))
    };
    let missing: Vec<_> = named.into_iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "docs/spec.md names tests that do not exist: {missing:#?}");
}
