//! Bytes into lines.

/// Longest line; longer ones are cut.
pub(super) const LINE: usize = 16 << 10;

/// Cuts one stream of bytes into lines. Never holds more than one line.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    line: Vec<u8>,
    /// A part of the current line has been dropped: so is the rest of it.
    torn: bool,
}

impl Splitter {
    /// The next whole line of `bytes`, without its end; takes what it has read from
    /// `bytes`. A line that is too long is cut in pieces. `None` once `bytes` is empty;
    /// the begin of a line is kept.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<String> {
        if self.torn {
            // Counted when its first part was dropped.
            let end = bytes.iter().position(|&b| b == b'\n');
            self.torn = end.is_none();
            *bytes = end.map_or(&[], |end| &bytes[end + 1..]);
        }
        while !bytes.is_empty() {
            let end = bytes.iter().position(|&b| b == b'\n');
            let room = LINE - self.line.len();
            let take = end.unwrap_or(bytes.len()).min(room);
            self.line.extend_from_slice(&bytes[..take]);
            let ended = end.is_some_and(|end| end == take);
            *bytes = &bytes[take + usize::from(ended)..];
            if ended || self.line.len() == LINE {
                return Some(self.finish());
            }
        }
        None
    }

    /// Drops the rest of `bytes` and returns how many lines were in it. The begin of a
    /// line behind them is kept; a line of which a part is dropped is dropped whole.
    pub(super) fn skip(&mut self, bytes: &mut &[u8]) -> u64 {
        let mut lines = bytes.iter().filter(|&&b| b == b'\n').count() as u64;
        let begun = match bytes.iter().rposition(|&b| b == b'\n') {
            Some(last) => {
                // A line that was torn before has been counted.
                lines -= u64::from(std::mem::take(&mut self.torn));
                self.line.clear();
                let begun = &bytes[last + 1..];
                let whole = begun.len() < LINE;
                self.line.extend_from_slice(if whole { begun } else { &[] });
                !whole
            }
            None => !bytes.is_empty() && !self.torn,
        };
        if begun {
            self.line.clear();
            self.torn = true;
            lines += 1;
        }
        *bytes = &[];
        lines
    }

    /// The begin of a line that will not be completed.
    pub(super) fn rest(&mut self) -> Option<String> {
        (!self.line.is_empty()).then(|| self.finish())
    }

    fn finish(&mut self) -> String {
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        let text = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(splitter: &mut Splitter, mut bytes: &[u8]) -> Vec<String> {
        std::iter::from_fn(|| splitter.next(&mut bytes)).collect()
    }

    #[test]
    fn lines_come_out_whole() {
        let mut splitter = Splitter::default();
        let pieces = ["a\n\nb", "c\r", "\n", "\u{e4}\nrest"];
        let lines: Vec<_> =
            pieces.iter().flat_map(|piece| feed(&mut splitter, piece.as_bytes())).collect();
        assert_eq!(lines, ["a", "", "bc", "ä"]);
        assert_eq!(splitter.rest().as_deref(), Some("rest"));
        assert_eq!(splitter.rest(), None);
        let lines = feed(&mut splitter, &vec![b'x'; LINE * 2 + 5]);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LINE, LINE]);
    }

    #[test]
    fn skipped_lines_are_counted_and_the_next_one_is_whole() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.skip(&mut b"one\ntwo\nthr".as_slice()), 2);
        assert_eq!(feed(&mut splitter, b"ee\n"), ["three"]);
    }

    #[test]
    fn a_line_of_which_a_part_is_dropped_is_counted_once_and_never_joined() {
        let mut splitter = Splitter::default();
        assert_eq!(feed(&mut splitter, b"begin "), [""; 0]);
        assert_eq!(splitter.skip(&mut b"middle".as_slice()), 1);
        assert_eq!(splitter.skip(&mut b"more".as_slice()), 0, "it is the same line");
        assert_eq!(feed(&mut splitter, b" end\nnext\n"), ["next"]);
        assert_eq!(splitter.skip(&mut b"a part".as_slice()), 1);
        assert_eq!(splitter.skip(&mut b" of it\none\nbeg".as_slice()), 1);
        assert_eq!(feed(&mut splitter, b"in\n"), ["begin"]);
        let long = [b"one\n".as_slice(), &vec![b'x'; LINE]].concat();
        assert_eq!(splitter.skip(&mut long.as_slice()), 2);
        assert_eq!(splitter.rest(), None);
        assert_eq!(feed(&mut splitter, b"xx\nnext\n"), ["next"]);
    }
}
