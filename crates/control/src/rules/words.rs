//! A command line in one string, split as a POSIX shell would, without
//! expanding anything.

/// The words, or why they cannot be told apart.
///
/// # Errors
/// A quote is not closed, or a backslash stands at the end.
pub fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("a ' is not closed")? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => {
                let c = chars.next().ok_or("a \\ stands at the end")?;
                word.get_or_insert_default().push(c);
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn double_quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), &'static str> {
    loop {
        match chars.next().ok_or("a \" is not closed")? {
            '"' => return Ok(()),
            '\\' => match chars.next().ok_or("a \" is not closed")? {
                c @ ('"' | '\\' | '$' | '`') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_line() {
        for (line, words) in [
            ("", vec![]),
            ("  ls   -l ", vec!["ls", "-l"]),
            ("sh -c 'echo \"a b\"; exit 3'", vec!["sh", "-c", "echo \"a b\"; exit 3"]),
            (r#"a "b \" c\n" ''"#, vec!["a", r#"b " c\n"#, ""]),
            (r"a\ b c\'d", vec!["a b", "c'd"]),
        ] {
            assert_eq!(split(line), Ok(words.iter().map(ToString::to_string).collect()), "{line}");
        }
        for bad in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
