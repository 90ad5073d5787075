//! All segments of all logs, in memory: readers and the retention look here, not at the
//! directory. Only the writer changes it.

use super::migrate::migrate;
use super::names::{Name, path};
use super::segments::{Added, first_line, last_line};
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::logs) struct Segment {
    /// The number of its first line, or of the next line of the log if it is empty.
    pub(in crate::logs) first: u64,
    /// The time of the line before it; 0 if there is none.
    pub(in crate::logs) before_ns: i64,
    /// The time of its first line, if that is needed: of the newest segment only.
    pub(in crate::logs) first_ns: Option<i64>,
    pub(in crate::logs) bytes: u64,
}

/// The lines of a log that are kept no longer: all up to a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::logs) struct Removed {
    pub(in crate::logs) number: u64,
    /// The time of the last of them.
    pub(in crate::logs) at_ns: i64,
}

/// A log.
#[derive(Clone, Debug, Default)]
pub(in crate::logs) struct LogFiles {
    /// Oldest first.
    pub(in crate::logs) segments: Vec<Segment>,
    /// The next line begins a segment.
    pub(in crate::logs) sealed: bool,
    /// The number of the last line that was stored; 0 if there was none.
    pub(in crate::logs) last: u64,
    /// Its time.
    pub(in crate::logs) last_ns: i64,
}

impl LogFiles {
    pub(in crate::logs) fn removed(&self) -> Option<Removed> {
        let oldest = self.segments.first()?;
        let removed = Removed { number: oldest.first.saturating_sub(1), at_ns: oldest.before_ns };
        // The first lines of a log may have been dropped before they were stored.
        (removed.number > 0 && removed.at_ns > 0).then_some(removed)
    }

    /// The time of the last line of a segment, by its place in the row.
    pub(in crate::logs) fn last_ns_of(&self, at: usize) -> i64 {
        self.segments.get(at + 1).map_or(self.last_ns, |next| next.before_ns)
    }

    pub(in crate::logs) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Paths, oldest first.
    pub(in crate::logs) fn paths(&self, dir: &Utf8Path, log: &str) -> Vec<Utf8PathBuf> {
        self.segments.iter().map(|part| path(dir, log, part.first, part.before_ns)).collect()
    }
}

/// All logs of the host.
#[derive(Debug, Default)]
pub(in crate::logs) struct Index(Mutex<HashMap<String, LogFiles>>);

impl Index {
    /// Reads what is in the directory.
    ///
    /// # Errors
    /// The directory cannot be read. A file that cannot be is reported and left out.
    pub(in crate::logs) fn load(&self, dir: &Utf8Path) -> io::Result<()> {
        migrate(dir)?;
        let mut logs: BTreeMap<String, LogFiles> = BTreeMap::new();
        for entry in dir.read_dir_utf8()? {
            let entry = entry?;
            let Some(name) = Name::parse(entry.file_name()) else { continue };
            let bytes = entry.metadata()?.len();
            let segment =
                Segment { first: name.first, before_ns: name.before_ns, first_ns: None, bytes };
            logs.entry(name.log).or_default().segments.push(segment);
        }
        let mut all = self.lock();
        for (log, mut files) in logs {
            files.segments.sort_by_key(|segment| segment.first);
            if let Err(err) = read_end(dir, &log, &mut files) {
                tracing::warn!(log, error = %err, "cannot read a log");
            }
            all.insert(log, files);
        }
        Ok(())
    }

    /// One log.
    pub(in crate::logs) fn get(&self, log: &str) -> Option<LogFiles> {
        self.lock().get(log).cloned()
    }

    /// All logs.
    pub(in crate::logs) fn all(&self) -> Vec<(String, LogFiles)> {
        self.lock().iter().map(|(log, files)| (log.clone(), files.clone())).collect()
    }

    /// The number of the last line of each log.
    pub(in crate::logs) fn ends(&self) -> BTreeMap<String, u64> {
        self.lock().iter().map(|(log, files)| (log.clone(), files.last)).collect()
    }

    /// The time of the newest line of all logs.
    pub(in crate::logs) fn newest_ns(&self) -> i64 {
        self.lock().values().map(|files| files.last_ns).max().unwrap_or(-1)
    }

    /// The segment that these lines go to: the newest one, unless it is full or sealed.
    pub(in crate::logs) fn segment_for(&self, log: &str, added: &Added<'_>, most: u64) -> Segment {
        let all = self.lock();
        let new = |before_ns| Segment { first: added.first.0, before_ns, first_ns: None, bytes: 0 };
        let Some(files) = all.get(log) else { return new(0) };
        match files.segments.last() {
            Some(newest) if newest.bytes == 0 || !files.sealed && newest.bytes < most => {
                newest.clone()
            }
            _ => new(files.last_ns.max(0)),
        }
    }

    /// Lines have been stored in `segment`, and so many bytes.
    pub(in crate::logs) fn added(
        &self,
        log: &str,
        segment: Segment,
        added: &Added<'_>,
        bytes: u64,
    ) {
        let mut all = self.lock();
        let files = all.entry(log.to_owned()).or_default();
        if files.segments.last().is_none_or(|newest| newest.first != segment.first) {
            files.segments.push(segment);
            files.sealed = false;
        }
        if let Some(newest) = files.segments.last_mut() {
            if newest.bytes == 0 {
                newest.first_ns = Some(added.first.1);
                files.sealed = false;
            }
            newest.bytes += bytes;
        }
        (files.last, files.last_ns) = added.last;
    }

    /// Replaces the segments of a log.
    pub(in crate::logs) fn replace(&self, log: &str, segments: Vec<Segment>) {
        if let Some(files) = self.lock().get_mut(log) {
            files.segments = segments;
        }
    }

    /// The next line of a log begins a segment.
    pub(in crate::logs) fn seal(&self, log: &str) {
        if let Some(files) = self.lock().get_mut(log) {
            files.sealed = true;
        }
    }

    /// Forgets a log.
    pub(in crate::logs) fn remove(&self, log: &str) -> Option<LogFiles> {
        self.lock().remove(log)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, LogFiles>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the last line of a log, and the first one of its newest segment.
fn read_end(dir: &Utf8Path, log: &str, files: &mut LogFiles) -> io::Result<()> {
    // Without a line: those before the name of its first segment.
    for segment in &files.segments {
        (files.last, files.last_ns) = (segment.first.saturating_sub(1), segment.before_ns);
    }
    let at = |segment: &Segment| path(dir, log, segment.first, segment.before_ns);
    if let Some(newest) = files.segments.last_mut() {
        newest.first_ns = first_line(&at(newest))?.map(|line| line.timestamp);
        if let Some(last) = last_line(&at(newest))? {
            (files.last, files.last_ns) = (last.offset, last.timestamp);
        }
    }
    Ok(())
}
