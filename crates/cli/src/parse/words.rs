//! A command in one string, split as a shell would, without expansion.

/// Splits at blanks; quotes and backslashes protect.
pub(crate) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    let open = |what: char| format!("{text:?} ends within {what}");
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => loop {
                let into = word.get_or_insert_default();
                match chars.next().ok_or_else(|| open('\''))? {
                    '\'' => break,
                    c => into.push(c),
                }
            },
            '"' => loop {
                let into = word.get_or_insert_default();
                match chars.next().ok_or_else(|| open('"'))? {
                    '"' => break,
                    '\\' => match chars.next().ok_or_else(|| open('"'))? {
                        c @ ('"' | '\\' | '$' | '`') => into.push(c),
                        c => into.extend(['\\', c]),
                    },
                    c => into.push(c),
                }
            },
            '\\' => word.get_or_insert_default().push(chars.next().ok_or_else(|| open('\\'))?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_by_the_table() {
        for (text, words) in [
            ("", Some(vec![])),
            ("  ls  -l ", Some(vec!["ls", "-l"])),
            ("sh -c 'echo $HOME; x'", Some(vec!["sh", "-c", "echo $HOME; x"])),
            (r#"a "b \"c\" \n" d\ e"#, Some(vec!["a", r#"b "c" \n"#, "d e"])),
            ("a'b'\"c\"", Some(vec!["abc"])),
            ("''", Some(vec![""])),
            ("'x", None),
            ("\"x", None),
            ("x\\", None),
        ] {
            let got = split(text).ok();
            let got: Option<Vec<&str>> =
                got.as_ref().map(|v| v.iter().map(String::as_str).collect());
            assert_eq!(got, words, "{text}");
        }
    }
}
