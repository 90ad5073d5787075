//! Two files per machine: the one being written and the one before it.

use super::SEGMENT;
use camino::{Utf8Path, Utf8PathBuf};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use wire::logs::LogEntry;

/// The files of one machine, JSON lines.
pub(super) struct Segments {
    current: Utf8PathBuf,
    previous: Utf8PathBuf,
    file: Option<(File, u64)>,
}

impl Segments {
    pub(super) fn open(dir: &Utf8Path, machine: &str) -> Self {
        let [current, previous] = paths(dir, machine);
        Self { current, previous, file: None }
    }

    pub(super) fn append(&mut self, entry: &LogEntry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry).expect("plain data serializes");
        line.push(b'\n');
        if self.file.as_ref().is_some_and(|(_, len)| *len >= SEGMENT) {
            self.file = None;
            fs::rename(&self.current, &self.previous)?;
        }
        let (file, len) = match &mut self.file {
            Some(open) => open,
            None => {
                let file = OpenOptions::new().create(true).append(true).open(&self.current)?;
                let len = file.metadata()?.len();
                self.file.insert((file, len))
            }
        };
        file.write_all(&line)?;
        *len += line.len() as u64;
        Ok(())
    }

    /// Offset of the newest line that is stored.
    pub(super) fn last_offset(&self) -> Option<u64> {
        [&self.current, &self.previous].into_iter().find_map(|path| last_line(path).ok().flatten())
    }
}

/// All lines of a machine, oldest first. A torn last line is left out.
pub(super) fn read(dir: &Utf8Path, machine: &str) -> Vec<LogEntry> {
    let [current, previous] = paths(dir, machine);
    let mut out = Vec::new();
    for path in [previous, current] {
        let Ok(file) = File::open(path) else { continue };
        let lines = BufReader::new(file.take(SEGMENT * 2)).lines().map_while(Result::ok);
        out.extend(lines.filter_map(|line| serde_json::from_str(&line).ok()));
    }
    out
}

pub(super) fn remove(dir: &Utf8Path, machine: &str) {
    for path in paths(dir, machine) {
        // It may never have logged.
        let _ = fs::remove_file(path);
    }
}

fn paths(dir: &Utf8Path, machine: &str) -> [Utf8PathBuf; 2] {
    [dir.join(format!("{machine}.log")), dir.join(format!("{machine}.log.1"))]
}

fn last_line(path: &Utf8Path) -> io::Result<Option<u64>> {
    const TAIL: u64 = 256 << 10;
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    let text = String::from_utf8_lossy(&tail);
    let entry = text.lines().rev().find_map(|line| serde_json::from_str::<LogEntry>(line).ok());
    Ok(entry.map(|entry| entry.offset))
}
