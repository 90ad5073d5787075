//! Segments on disk: JSON lines, appended whole.

use crate::logs::guest::{Channel, Positions};
use camino::Utf8Path;
use model::id::BootId;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// What is read of a segment's end to learn where the output of guests was.
const RESUME: u64 = 256 << 10;
/// What is read of a file's end at first to find its last line.
const LAST: u64 = 8 << 10;

/// The fields of a stored line beside its entry, and its place.
#[derive(serde::Deserialize)]
pub(in crate::logs) struct Stored {
    pub(in crate::logs) offset: u64,
    #[serde(default)]
    pub(in crate::logs) timestamp: i64,
    /// Boot, number of the channel and offset of the line's end in the output of a guest.
    #[serde(default)]
    guest: Option<(BootId, usize, u64)>,
}

/// Lines that are added to a log with one write.
#[derive(Debug)]
pub(in crate::logs) struct Added<'a> {
    pub(in crate::logs) lines: &'a [u8],
    /// Number and time of the first of them.
    pub(in crate::logs) first: (u64, i64),
    /// Number and time of the last of them.
    pub(in crate::logs) last: (u64, i64),
}

/// Appends whole lines with one write; the bytes that were added.
///
/// No file stays open between two writes: there may be thousands of logs.
pub(in crate::logs) fn append(path: &Utf8Path, lines: &[u8]) -> io::Result<u64> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let before = file.metadata()?.len();
    let torn = end_torn_line(&mut file, before)?;
    file.write_all(lines).inspect_err(|_| {
        // A part of them would end in the middle of a line. Best effort: the write that
        // failed is reported.
        let _ = file.set_len(before);
    })?;
    Ok(lines.len() as u64 + u64::from(torn))
}

/// Makes an empty segment.
pub(in crate::logs) fn begin(path: &Utf8Path) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(path).map(drop)
}

/// Ends the last line if a power cut has torn it: the next one would be a part of it.
fn end_torn_line(file: &mut File, length: u64) -> io::Result<bool> {
    let mut last = *b"\n";
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(last != *b"\n")
}

/// Adds to the last line of `lines` where it ends in the output of its guest.
pub(in crate::logs) fn note_end(lines: &mut Vec<u8>, boot: BootId, slot: usize, end: u64) {
    if lines.ends_with(b"}\n") {
        lines.truncate(lines.len() - 2);
        let note = format!(",\"guest\":[\"{boot}\",{slot},{end}]}}\n");
        lines.extend_from_slice(note.as_bytes());
    }
}

/// How far the output of the last boot has come, by the segments of a log, oldest first.
pub(in crate::logs) fn resume<'a>(paths: impl Iterator<Item = &'a Utf8Path>) -> Positions {
    let mut positions = Positions::default();
    for tail in paths.filter_map(|path| tail(path, RESUME).ok()) {
        let lines = tail.split(|byte| *byte == b'\n');
        for stored in lines.filter_map(|line| serde_json::from_slice::<Stored>(line).ok()) {
            let Some((boot, slot, end)) = stored.guest else { continue };
            if Channel::of_slot(slot).is_some() {
                let position = positions.of(Some(boot), slot);
                (position.taken, position.stored) = (end, end);
            }
        }
    }
    positions
}

/// The first line of a file that is whole.
pub(super) fn first_line(path: &Utf8Path) -> io::Result<Option<Stored>> {
    let lines = BufReader::new(File::open(path)?).split(b'\n');
    for line in lines {
        if let Ok(stored) = serde_json::from_slice(&line?) {
            return Ok(Some(stored));
        }
    }
    Ok(None)
}

/// The last line of a file that is whole.
pub(super) fn last_line(path: &Utf8Path) -> io::Result<Option<Stored>> {
    let length = std::fs::metadata(path)?.len();
    let mut bytes = LAST;
    loop {
        let tail = tail(path, bytes)?;
        let mut lines = tail.rsplit(|byte| *byte == b'\n');
        if let Some(stored) = lines.find_map(|line| serde_json::from_slice(line).ok()) {
            return Ok(Some(stored));
        }
        if bytes >= length {
            return Ok(None);
        }
        bytes = bytes.saturating_mul(8);
    }
}

/// The last whole lines of a file within `bytes`.
pub(in crate::logs) fn tail(path: &Utf8Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let skipped = file.metadata()?.len().saturating_sub(bytes);
    file.seek(SeekFrom::Start(skipped))?;
    let mut tail = Vec::new();
    file.take(bytes).read_to_end(&mut tail)?;
    if skipped > 0 {
        let first = tail.iter().position(|&b| b == b'\n').map_or(tail.len(), |end| end + 1);
        tail.drain(..first);
    }
    Ok(tail)
}

/// The end of a segment: its last whole lines within `bytes`, the number of the first of them,
/// and the time of the line before it. `None` if there is no whole line.
pub(in crate::logs) fn end_of(
    path: &Utf8Path,
    bytes: u64,
) -> io::Result<Option<(u64, i64, Vec<u8>)>> {
    let text = std::fs::read(path)?;
    let end = tail(path, bytes)?;
    let first = end.split(|byte| *byte == b'\n').find_map(parse);
    let before = text[..text.len().saturating_sub(end.len())].rsplit(|byte| *byte == b'\n');
    let before_ns = before.filter_map(parse).map(|line| line.timestamp).next();
    Ok(first
        .map(|first| (first.offset, before_ns.unwrap_or(first.timestamp.saturating_sub(1)), end)))
}

fn parse(line: &[u8]) -> Option<Stored> {
    serde_json::from_slice(line).ok()
}
