//! Secrets as arguments and as lines of a file.

use std::collections::BTreeMap;
use wire::secret::Secret;

/// Marks a value of several lines, as its first and last characters.
const QUOTES: &str = "\"\"\"";

/// `NAME=VALUE`; the error does not show the value.
pub(crate) fn secret_pair(text: &str) -> Result<(String, Secret), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), Secret::new(value))),
        Some(_) => Err("a name is missing before the `=`".to_owned()),
        None => Err("it is not of the form NAME=VALUE".to_owned()),
    }
}

/// Lines `NAME=VALUE`, as flyctl reads them: comments begin with `#`, a value may be in
/// double quotes, and one of several lines in `"""`. Errors name the line only.
pub(crate) fn secret_lines(text: &str) -> Result<BTreeMap<String, Secret>, String> {
    let mut secrets = BTreeMap::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| format!("line {} is not of the form NAME=VALUE", at + 1))?;
        let value = value.trim_start_matches(' ');
        let value = match value.strip_prefix(QUOTES) {
            Some(first) => {
                let mut whole = format!("{first}\n");
                loop {
                    let (_, line) = lines.next().ok_or_else(|| {
                        format!("the value that begins in line {} has no end", at + 1)
                    })?;
                    if let Some(last) = line.strip_suffix(QUOTES) {
                        whole.push_str(last);
                        break;
                    }
                    whole.push_str(line);
                    whole.push('\n');
                }
                whole
            }
            None => {
                let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                inner.unwrap_or(value).to_owned()
            }
        };
        let name = name.trim();
        if name.is_empty() {
            return Err(format!("line {} has no name before the `=`", at + 1));
        }
        secrets.insert(name.to_owned(), Secret::new(value));
    }
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_file() {
        let text = "# comment\n\nA=1\n B = two words \nQ=\"quoted # text\"\nE=\nX=a=b\n\
                    M=\"\"\"first\nsecond\n\"\"\"\nL= \"\"\"x\ny\"\"\"\nA=again\n";
        let secrets = secret_lines(text).unwrap();
        let shown: Vec<_> =
            secrets.iter().map(|(name, value)| format!("{name}={:?}", value.expose())).collect();
        assert_eq!(
            shown,
            [
                "A=\"again\"",
                "B=\"two words \"",
                "E=\"\"",
                "L=\"x\\ny\"",
                "M=\"first\\nsecond\\n\"",
                "Q=\"quoted # text\"",
                "X=\"a=b\""
            ]
        );
        for (text, expected) in [
            ("A=1\nhunter2\n", "line 2 is not of the form NAME=VALUE"),
            ("=hunter2", "line 1 has no name before the `=`"),
            ("A=\"\"\"hunter2\n", "the value that begins in line 1 has no end"),
        ] {
            assert_eq!(secret_lines(text).unwrap_err(), expected);
        }
        assert!(secret_pair("hunter2").is_err_and(|why| !why.contains("hunter2")));
        assert!(secret_pair("=hunter2").is_err_and(|why| !why.contains("hunter2")));
    }
}
