//! Bytes into lines.

use super::LINE;

/// Cuts one stream of bytes into lines. Never holds more than one line.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    line: Vec<u8>,
}

impl Splitter {
    /// Takes bytes as they come and gives each whole line, without its end, to
    /// `each`. A line that is too long is cut in pieces.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(String)) {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|&b| b == b'\n');
            let room = LINE - self.line.len();
            let take = end.unwrap_or(bytes.len()).min(room);
            self.line.extend_from_slice(&bytes[..take]);
            let ended = end.is_some_and(|end| end == take);
            bytes = &bytes[take + usize::from(ended)..];
            if ended || self.line.len() == LINE {
                each(self.finish());
            }
        }
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

    #[test]
    fn lines_come_out_whole() {
        let mut splitter = Splitter::default();
        let mut lines = Vec::new();
        for piece in ["a\n\nb", "c\r", "\n", "\u{e4}\n"] {
            splitter.feed(piece.as_bytes(), |line| lines.push(line));
        }
        assert_eq!(lines, ["a", "", "bc", "ä"]);
        lines.clear();
        splitter.feed(&vec![b'x'; LINE * 2 + 5], |line| lines.push(line));
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LINE, LINE]);
    }
}
