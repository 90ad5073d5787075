//! Logs of version 0.1: `<log>.log`, and before it `<log>.log.1`.

use super::names::{legacy, path};
use super::segments::{first_line, last_line};
use camino::{Utf8Path, Utf8PathBuf};
use std::{fs, io};

/// Gives the files of earlier versions the names of segments. What cannot be renamed is left, and
/// tried again at the next start.
pub(super) fn migrate(dir: &Utf8Path) -> io::Result<()> {
    let mut files: Vec<Utf8PathBuf> = Vec::new();
    for entry in dir.read_dir_utf8()? {
        let entry = entry?;
        if legacy(entry.file_name()).is_some() {
            files.push(entry.into_path());
        }
    }
    // `m.log.1` is older than `m.log`, and is renamed first: its last line is the one before.
    files.sort_by(|a, b| b.cmp(a));
    for file in files {
        if let Err(err) = rename(dir, &file) {
            tracing::warn!(%file, error = %err, "cannot rename a log of an earlier version");
        }
    }
    Ok(())
}

fn rename(dir: &Utf8Path, file: &Utf8Path) -> io::Result<()> {
    let Some(log) = file.file_name().and_then(legacy) else { return Ok(()) };
    let Some(first) = first_line(file)? else { return fs::remove_file(file) };
    // What is before its first line has been removed, or is in the segment that was renamed just
    // now.
    let before = match first.offset {
        0 | 1 => 0,
        _ => before(dir, log, first.offset)?.unwrap_or(first.timestamp.saturating_sub(1)),
    };
    fs::rename(file, path(dir, log, first.offset, before))
}

/// The time of the line before this number, if an older segment has it.
fn before(dir: &Utf8Path, log: &str, offset: u64) -> io::Result<Option<i64>> {
    let mut newest = None;
    for entry in dir.read_dir_utf8()? {
        let entry = entry?;
        let name = super::names::Name::parse(entry.file_name());
        if name.is_some_and(|name| name.log == log && name.first < offset) {
            newest = last_line(entry.path())?.map(|line| line.timestamp).max(newest);
        }
    }
    Ok(newest)
}
