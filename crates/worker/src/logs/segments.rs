//! Two files per log: the one being written and the one before it.

use super::SEGMENT;
use super::guest::{Channel, Positions};
use camino::{Utf8Path, Utf8PathBuf};
use model::id::BootId;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use wire::logs::LogEntry;

/// The files of one log, JSON lines. No file stays open between two writes: there may
/// be thousands of logs.
pub(super) struct Segments {
    current: Utf8PathBuf,
    previous: Utf8PathBuf,
}

impl Segments {
    pub(super) fn new(dir: &Utf8Path, log: &str) -> Self {
        let [current, previous] = paths(dir, log);
        Self { current, previous }
    }

    /// Appends whole lines with one write.
    pub(super) fn append(&self, lines: &[u8]) -> io::Result<()> {
        let open = || OpenOptions::new().create(true).read(true).append(true).open(&self.current);
        let mut file = open()?;
        if file.metadata()?.len() >= SEGMENT {
            fs::rename(&self.current, &self.previous)?;
            file = open()?;
        }
        let before = file.metadata()?.len();
        end_torn_line(&mut file, before)?;
        file.write_all(lines).inspect_err(|_| {
            // A part of them would end in the middle of a line. Best effort: the write that
            // failed is reported.
            let _ = file.set_len(before);
        })
    }

    /// Keeps only the newest `bytes`, in whole lines.
    pub(super) fn trim(&self, bytes: u64) -> io::Result<()> {
        let tail = match tail(&self.current, bytes) {
            Ok(tail) => tail,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(err) => return Err(err),
        };
        remove_file(&self.previous)?;
        rt::fs::write_atomic(self.current.as_std_path(), &tail, 0o600)
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        remove_file(&self.current)?;
        remove_file(&self.previous)
    }

    /// The number of the next line, and how far the output of the last boot has come.
    pub(super) fn resume(&self) -> (u64, Positions) {
        let tails = [&self.previous, &self.current].map(|path| tail(path, 256 << 10));
        let lines = tails.into_iter().flatten();
        let (mut next, mut positions) = (1, Positions::default());
        for text in lines.map(|tail| String::from_utf8_lossy(&tail).into_owned()) {
            for stored in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
                let Stored { offset, guest } = stored;
                next = next.max(offset + 1);
                if let Some((boot, slot, end)) = guest {
                    if Channel::of_slot(slot).is_none() {
                        continue;
                    }
                    let position = positions.of(Some(boot), slot);
                    (position.taken, position.stored) = (end, end);
                }
            }
        }
        (next, positions)
    }
}

/// The fields of a stored line beside its entry.
#[derive(serde::Deserialize)]
struct Stored {
    offset: u64,
    /// Boot, number of the channel and offset of the line's end in the output of a guest.
    #[serde(default)]
    guest: Option<(BootId, usize, u64)>,
}

/// Adds to the last line of `lines` where it ends in the output of its guest.
pub(super) fn note_end(lines: &mut Vec<u8>, boot: BootId, slot: usize, end: u64) {
    if lines.ends_with(b"}\n") {
        lines.truncate(lines.len() - 2);
        let note = format!(",\"guest\":[\"{boot}\",{slot},{end}]}}\n");
        lines.extend_from_slice(note.as_bytes());
    }
}

/// Ends the last line if a power cut has torn it: the next one would be a part of it.
fn end_torn_line(file: &mut File, length: u64) -> io::Result<()> {
    let mut last = *b"\n";
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    match last == *b"\n" {
        true => Ok(()),
        false => file.write_all(b"\n"),
    }
}

/// All lines of a log, oldest first. Torn lines are left out.
pub(super) fn read(dir: &Utf8Path, log: &str) -> Vec<LogEntry> {
    let [current, previous] = paths(dir, log);
    let mut out = Vec::new();
    for path in [previous, current] {
        let Ok(file) = File::open(path) else { continue };
        // By bytes: a line that was cut within a character is no text, those behind it are.
        let lines = BufReader::new(file.take(SEGMENT * 2)).split(b'\n').map_while(Result::ok);
        out.extend(lines.filter_map(|line| serde_json::from_slice(&line).ok()));
    }
    out
}

/// The log that a file of the directory belongs to.
pub(super) fn log_of(file_name: &str) -> Option<&str> {
    file_name.strip_suffix(".log").or_else(|| file_name.strip_suffix(".log.1"))
}

fn paths(dir: &Utf8Path, log: &str) -> [Utf8PathBuf; 2] {
    [dir.join(format!("{log}.log")), dir.join(format!("{log}.log.1"))]
}

fn remove_file(path: &Utf8Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

/// The last whole lines of a file within `bytes`.
fn tail(path: &Utf8Path, bytes: u64) -> io::Result<Vec<u8>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(offset: u64, message: &str) -> Vec<u8> {
        let (provider, level) = ("app".to_owned(), "info".to_owned());
        let (instance, region) = ("m1".to_owned(), "here".to_owned());
        let message = message.to_owned();
        let meta = std::collections::BTreeMap::new();
        let entry =
            LogEntry { offset, timestamp: 0, provider, level, instance, region, message, meta };
        [serde_json::to_vec(&entry).unwrap(), b"\n".to_vec()].concat()
    }

    #[test]
    fn a_torn_line_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let segments = Segments::new(dir, "m1");
        segments.append(&line(1, "one")).unwrap();
        // A power cut has kept half of the last character.
        let torn = line(2, "\u{e4}");
        let half = torn.iter().position(|&byte| byte == 0xc3).unwrap() + 1;
        segments.append(&torn[..half]).unwrap();
        for (number, message) in [(2, "two"), (3, "three")] {
            segments.append(&line(number, message)).unwrap();
        }
        let texts: Vec<_> = read(dir, "m1").into_iter().map(|entry| entry.message).collect();
        assert_eq!(texts, ["one", "two", "three"]);
        assert_eq!(segments.resume().0, 4);
        // So does one that an earlier version has joined with the line behind it.
        fs::write(dir.join("m2.log"), [&torn[..half], &line(3, "x"), &line(4, "four")].concat())
            .unwrap();
        let texts: Vec<_> = read(dir, "m2").into_iter().map(|entry| entry.message).collect();
        assert_eq!(texts, ["four"]);
    }
}
