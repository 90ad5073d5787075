//! Commands in the pages of the documentation are commands of this program.

use crate::Updraft;
use clap::CommandFactory;
use clap::error::ErrorKind;
use std::path::{Path, PathBuf};

/// The Markdown pages of the repository that users read.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut folders = vec![root.join("docs")];
    let mut found = vec![root.join("README.md")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// The commands of this program in the shell examples of a page.
fn commands(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    let joined = page.replace("\\\n", " ");
    for line in joined.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            inside = !inside && matches!(language.trim(), "sh" | "bash" | "console");
            continue;
        }
        let parts = line.split(" # ").next().unwrap_or_default().split([';', '|', '&']);
        for part in parts.filter(|_| inside) {
            let part = part.trim().trim_start_matches("$ ").trim_start_matches("sudo ");
            // Redirections and what a shell puts in are not of the program.
            let part =
                part.split([' ', '\t']).take_while(|word| !word.starts_with(['<', '>', '$']));
            let part = part.collect::<Vec<_>>().join(" ");
            if part.starts_with("updraft ") {
                found.push(part);
            }
        }
    }
    found
}

/// Words as a shell splits them; examples have quotes and nothing more difficult.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            (' ', None) => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn commands_of_the_documentation_are_understood() {
    let mut checked = 0;
    for path in pages() {
        let page = std::fs::read_to_string(&path).unwrap();
        for command in commands(&page) {
            checked += 1;
            let parsed = Updraft::command().try_get_matches_from(words(&command));
            let error = parsed.err().filter(|err| err.kind() != ErrorKind::DisplayHelp);
            let error = error.map(|err| err.to_string());
            assert!(error.is_none(), "{}: {command}\n{}", path.display(), error.unwrap());
        }
    }
    assert!(checked >= 30, "{checked} examples found");
}

#[test]
fn examples_are_found_as_a_shell_would_split_them() {
    let page = "```sh\nupdraft up --domain x &   # all\nA=1; sudo updraft m ls -q | head\n\
                updraft secrets import < .env\nupdraft m exec ID \\\n  -- sh -c 'a b'\n```\n\
                ```json\nupdraft no\n```\n";
    let found = commands(page);
    let shown: Vec<_> = found.iter().map(|command| words(command).join("+")).collect();
    let expected = [
        "updraft+up+--domain+x",
        "updraft+m+ls+-q",
        "updraft+secrets+import",
        "updraft+m+exec+ID+--+sh+-c+a b",
    ];
    assert_eq!(shown, expected);
}
