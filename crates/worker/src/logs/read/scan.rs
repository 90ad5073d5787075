//! Lines of one log, in either direction, one at a time.
//!
//! Numbers and times grow along a log, so the place to begin at is found by bisection.

use crate::logs::files::{LogFiles, path};
use camino::Utf8Path;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use wire::logs::LogEntry;

/// A stretch of a file that is read from its begin rather than divided again.
const STRETCH: u64 = 64 << 10;
/// What is read at a time from the end of a file.
const CHUNK: u64 = 256 << 10;

/// Number and time of a line.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
struct Place {
    offset: u64,
    timestamp: i64,
}

/// Receives lines with the bytes that they take on disk, until it breaks.
type Each<'a> = &'a mut dyn FnMut(LogEntry, u64) -> ControlFlow<()>;

/// The lines after a time, oldest first.
pub(super) fn forward(dir: &Utf8Path, log: &str, files: &LogFiles, after: i64, each: Each<'_>) {
    let skipped = |at: usize| files.last_ns_of(at) <= after;
    read(dir, log, files, skipped, |place| place.timestamp <= after, each);
}

/// The lines from a number on, oldest first.
pub(in crate::logs) fn from_number(
    dir: &Utf8Path,
    log: &str,
    files: &LogFiles,
    number: u64,
    each: Each<'_>,
) {
    let skipped = |at: usize| files.segments.get(at + 1).is_some_and(|next| next.first <= number);
    read(dir, log, files, skipped, |place| place.offset < number, each);
}

fn read(
    dir: &Utf8Path,
    log: &str,
    files: &LogFiles,
    skipped: impl Fn(usize) -> bool,
    before: impl Fn(Place) -> bool,
    each: Each<'_>,
) {
    let wanted = files.segments.iter().enumerate().filter(|(at, _)| !skipped(*at));
    for (_, segment) in wanted {
        let path = path(dir, log, segment.first, segment.before_ns);
        // One that is not there any more has been removed meanwhile.
        let Ok(file) = File::open(&path) else { continue };
        match read_file(file, &before, each) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return,
            Err(err) => tracing::debug!(%path, error = %err, "cannot read a log"),
        }
    }
}

fn read_file(
    mut file: File,
    before: &impl Fn(Place) -> bool,
    each: Each<'_>,
) -> io::Result<ControlFlow<()>> {
    let begin = bisect(&file, before)?;
    file.seek(SeekFrom::Start(begin))?;
    let mut lines = BufReader::with_capacity(STRETCH as usize, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        // By bytes: a line that was cut within a character is no text, those behind it are.
        let read = lines.read_until(b'\n', &mut line)? as u64;
        if read == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        let Ok(entry) = serde_json::from_slice::<LogEntry>(&line) else { continue };
        if before(Place { offset: entry.offset, timestamp: entry.timestamp }) {
            continue;
        }
        if each(entry, read).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
}

/// The begin of a line, so that all lines ahead of it are `before`, and few behind it are.
fn bisect(file: &File, before: &impl Fn(Place) -> bool) -> io::Result<u64> {
    let (mut low, mut high) = (0, file.metadata()?.len());
    while high - low > STRETCH {
        let middle = low + (high - low) / 2;
        match next_line(file, middle, high)? {
            Some((begin, place)) if before(place) => low = begin,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The first whole line that begins behind `from`.
fn next_line(file: &File, from: u64, end: u64) -> io::Result<Option<(u64, Place)>> {
    let mut lines = BufReader::new(At { file, at: from });
    let mut begin = from;
    let mut line = Vec::new();
    while begin < end {
        let is_part = begin == from;
        line.clear();
        let read = lines.read_until(b'\n', &mut line)? as u64;
        if read == 0 {
            return Ok(None);
        }
        if let (false, Ok(place)) = (is_part, serde_json::from_slice(&line)) {
            return Ok(Some((begin, place)));
        }
        begin += read;
    }
    Ok(None)
}

/// Reads from a place of a file.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl io::Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// All lines, newest first.
pub(super) fn backward(dir: &Utf8Path, log: &str, files: &LogFiles, each: Each<'_>) {
    for segment in files.segments.iter().rev() {
        let path = path(dir, log, segment.first, segment.before_ns);
        let Ok(file) = File::open(&path) else { continue };
        match read_file_backward(&file, each) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return,
            Err(err) => tracing::debug!(%path, error = %err, "cannot read a log"),
        }
    }
}

fn read_file_backward(file: &File, each: Each<'_>) -> io::Result<ControlFlow<()>> {
    let mut begin = file.metadata()?.len();
    // The begin of a line whose end has been read.
    let mut rest = Vec::new();
    while begin > 0 {
        let end = begin;
        begin = end.saturating_sub(CHUNK);
        let mut text = vec![0; (end - begin) as usize];
        file.read_exact_at(&mut text, begin)?;
        text.append(&mut rest);
        let whole = match begin {
            0 => 0,
            _ => text.iter().position(|&byte| byte == b'\n').map_or(text.len(), |end| end + 1),
        };
        for line in text[whole..].rsplit(|&byte| byte == b'\n') {
            let Ok(entry) = serde_json::from_slice(line) else { continue };
            if each(entry, line.len() as u64 + 1).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        text.truncate(whole);
        rest = text;
    }
    Ok(ControlFlow::Continue(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::files::Segment;
    use std::io::Write;

    /// Two segments of 3000 lines in all, some torn; line `n` is of the time `10 n`.
    fn log(dir: &Utf8Path) -> LogFiles {
        let segment = |first: u64| Segment {
            first,
            before_ns: (first as i64 - 1) * 10,
            first_ns: None,
            bytes: 1,
        };
        let segments = vec![segment(1), segment(2001)];
        for (n, part) in segments.iter().enumerate() {
            let mut file = File::create(path(dir, "m", part.first, part.before_ns)).unwrap();
            let last = [2000, 3000][n];
            for number in part.first..=last {
                let entry = LogEntry {
                    offset: number,
                    provider: "app".into(),
                    message: "x".repeat(number as usize % 700),
                    ..LogEntry::position(number as i64 * 10)
                };
                let line = serde_json::to_string(&entry).unwrap();
                let torn = if number % 97 == 0 { &line[..9] } else { "" };
                writeln!(file, "{torn}{}{line}", if torn.is_empty() { "" } else { "\n" }).unwrap();
            }
        }
        LogFiles { segments, sealed: false, last: 3000, last_ns: 30_000 }
    }

    #[test]
    fn a_log_is_read_from_any_line_in_both_directions() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let files = log(dir);
        for begin in [0, 1, 96, 97, 1234, 1999, 2000, 2001, 2900, 2999, 3000] {
            let mut numbers = Vec::new();
            let mut each = |entry: LogEntry, _| {
                numbers.push(entry.offset);
                ControlFlow::Continue(())
            };
            forward(dir, "m", &files, begin * 10, &mut each);
            assert!(numbers.iter().copied().eq(begin as u64 + 1..=3000), "after {begin}");
            let mut numbers = Vec::new();
            let mut each = |entry: LogEntry, _| {
                numbers.push(entry.offset);
                ControlFlow::Continue(())
            };
            from_number(dir, "m", &files, begin as u64, &mut each);
            assert!(numbers.iter().copied().eq((begin as u64).max(1)..=3000), "from {begin}");
        }
        let mut numbers = Vec::new();
        let mut each = |entry: LogEntry, _| {
            numbers.push(entry.offset);
            if entry.offset == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        backward(dir, "m", &files, &mut each);
        assert!(numbers.iter().copied().eq((3..=3000).rev()), "{} lines", numbers.len());
    }

    #[test]
    fn segments_that_have_been_removed_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let files = log(dir);
        std::fs::remove_file(path(dir, "m", 1, 0)).unwrap();
        let mut first = None;
        let mut each = |entry: LogEntry, _| {
            first = Some(entry.offset);
            ControlFlow::Break(())
        };
        forward(dir, "m", &files, 0, &mut each);
        assert_eq!(first, Some(2001));
    }
}
