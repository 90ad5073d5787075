//! The end of a console or log: text from a guest or a process that may hold
//! anything.

/// Bytes of guest console kept in memory by QEMU, however much the guest prints; a
/// power of two.
pub(crate) const CONSOLE_BYTES: u32 = 64 * 1024;

/// Most bytes of the console tail (`worker::ports::VmExit`).
const MOST: usize = 4096;

/// The end of `text` as plain lines: no control characters, at most 4 KiB,
/// beginning with a whole line if any was cut off.
pub(crate) fn tail(text: &str) -> String {
    let plain: String = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
    let plain = plain.trim();
    if plain.len() <= MOST {
        return plain.to_owned();
    }
    let past = plain.len() - MOST;
    let cut = (past..plain.len()).find(|at| plain.is_char_boundary(*at)).unwrap_or(plain.len());
    let end = &plain[cut..];
    end.split_once('\n').map_or(end, |(_, whole)| whole).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_in_whole_lines_and_no_control_characters() {
        assert_eq!(tail("a\u{1b}[2Jb\r\n\0c\n"), "a[2Jb\nc");
        let long = "0123456789ü\n".repeat(1000);
        let end = tail(&long);
        assert!(end.len() <= MOST && end.starts_with("0123456789ü\n") && end.ends_with('ü'));
        assert!(tail(&"x".repeat(10_000)).len() <= MOST);
    }
}
