//! Text of machines, made safe for a terminal.

/// A message, which is the machine's, for a terminal: tabs and colours are
/// passed on, every other control character is only shown. An escape sequence may
/// change the title, write to the clipboard or have the terminal type.
pub(crate) fn shown(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(c) = rest.chars().next() {
        let length = match colour(rest) {
            Some(length) => {
                text.push_str(&rest[..length]);
                length
            }
            None if c == '\t' || !c.is_control() => {
                text.push(c);
                c.len_utf8()
            }
            None => {
                text.extend(c.escape_default());
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    text
}

/// Lines for a terminal, every control character but tabs shown. Colours are, too:
/// these lines stand among those of the command itself.
pub(crate) fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// The same, with all lines but the first indented: none of them can pass for a
/// line of the command.
pub(crate) fn paragraph(text: &str) -> String {
    lines(text.trim_end()).replace('\n', "\n  ")
}

/// With a capital letter at its begin.
pub(crate) fn capitalized(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or(String::new(), |first| first.to_uppercase().chain(rest).collect())
}

/// Length of the `ESC [ … m` that a text begins with, if it does.
fn colour(text: &str) -> Option<usize> {
    let numbers = text.strip_prefix("\x1b[")?;
    let after = numbers.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
    after.starts_with('m').then(|| text.len() - after.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_and_tabs_are_passed_on() {
        for (message, wanted) in [
            ("plain ü\ttext", "plain ü\ttext"),
            ("\x1b[1;31mred\x1b[0m \x1b[m", "\x1b[1;31mred\x1b[0m \x1b[m"),
            ("\x1b]52;c;aGk=\x07", "\\u{1b}]52;c;aGk=\\u{7}"),
            ("\x1b[2J\x1b[6n", "\\u{1b}[2J\\u{1b}[6n"),
            ("\x1b[?1049hm", "\\u{1b}[?1049hm"),
            ("\x1b\x1b[1m\x1b[1", "\\u{1b}\x1b[1m\\u{1b}[1"),
            ("a\rb\u{9b}31m", "a\\rb\\u{9b}31m"),
        ] {
            assert_eq!(shown(message), wanted);
        }
    }
}
