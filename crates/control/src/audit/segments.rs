//! Entries in files, one JSON line each.
//!
//! Invariants:
//! - An entry is written to the kernel before its call is answered, so that it survives the end
//!   of the process. It is made durable within a second ([`Segments::sync`]): a power cut may
//!   take the last second of the log, never its order.
//! - All segments together are bounded in bytes and in age; the oldest is deleted first. A
//!   segment is written for an eighth of the age at most, so that an entry is kept that much
//!   too long at most.
//! - After a write that failed the next entry begins a file of its own, since half a line may be
//!   in the former one.

use model::id::EventId;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use wire::audit::{AuditEntry, AuditPage};

/// Bytes of a segment before the next one is begun.
const SEGMENT: u64 = 4 << 20;
/// Longest line that is read; longer ones were not written by us.
const MAX_LINE: u64 = 64 * 1024;

/// What the files may take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditLimits {
    /// Bytes of all files.
    pub bytes: u64,
    /// Age of an entry in milliseconds.
    pub age_ms: u64,
}

impl Default for AuditLimits {
    fn default() -> Self {
        Self { bytes: 64 << 20, age_ms: 90 * 24 * 3600 * 1000 }
    }
}

/// The files of a directory. Their names are the ids of their first entries, so that they sort
/// by time.
#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    limits: AuditLimits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    file: Option<File>,
    size: u64,
    /// Time of its first entry.
    begun_ms: u64,
    is_dirty: bool,
    /// Time and number within it of the newest id. Ids grow also when the clock is set back.
    newest: (u64, u128),
}

impl Segments {
    /// The segments of a directory, which is made if it is not there.
    pub(super) fn open(dir: &Path, limits: AuditLimits) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let own = Self { dir: dir.to_owned(), limits, open: Mutex::default() };
        if let Some((path, _)) = own.list()?.last() {
            let entries = read(path)?;
            let newest = entries.last().map_or(name_of(path), |entry| &entry.id);
            let newest = (time_of(newest).unwrap_or(0) + 1, 0);
            own.open.lock().unwrap_or_else(PoisonError::into_inner).newest = newest;
        }
        Ok(own)
    }

    /// Appends an entry, and gives it its id. `now_ms` is its time.
    pub(super) fn append(&self, entry: AuditEntry, now_ms: u64) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in_use = open.file.is_some();
        match self.try_append(&mut open, &entry, now_ms) {
            // Once more in a file of its own.
            Err(_) if is_in_use => self.try_append(&mut open, &entry, now_ms),
            done => done,
        }
    }

    fn try_append(&self, open: &mut Open, entry: &AuditEntry, now_ms: u64) -> io::Result<()> {
        let (ms, number) = open.newest;
        open.newest = if now_ms > ms { (now_ms, 0) } else { (ms, number + 1) };
        let id = EventId::new(open.newest.0, open.newest.1).to_string();
        let entry = AuditEntry { id, ..entry.clone() };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        let lasts_ms = self.limits.age_ms / 8;
        let is_old = now_ms.saturating_sub(open.begun_ms) > lasts_ms;
        if open.file.is_none() || open.size >= SEGMENT || is_old {
            self.begin(open, &entry.id, now_ms)?;
        }
        let file = open.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        if let Err(err) = file.write_all(&line) {
            open.file = None;
            return Err(err);
        }
        open.size += line.len() as u64;
        open.is_dirty = true;
        Ok(())
    }

    /// Begins a segment. A process that was killed may have left half a line: it begins one, too.
    fn begin(&self, open: &mut Open, id: &str, now_ms: u64) -> io::Result<()> {
        let path = self.dir.join(format!("{id}.ndjson"));
        let made = OpenOptions::new().create_new(true).append(true).mode(0o600).open(path);
        let file = match made {
            Ok(file) => file,
            // A segment that is too large or too old is better than none.
            Err(err) if open.file.is_some() => {
                tracing::error!(error = %err, "begin a file of the audit log");
                return Ok(());
            }
            Err(err) => return Err(err),
        };
        let former = open.file.replace(file);
        (open.size, open.begun_ms) = (0, now_ms);
        // The entry is written also if one of these fails.
        let tidied = former.map_or(Ok(()), |former| former.sync_data());
        let tidied = tidied.and(rt::fs::sync_dir(&self.dir)).and(self.remove_old(now_ms));
        if let Err(err) = tidied {
            tracing::error!(error = %err, "tidy the audit log");
        }
        Ok(())
    }

    /// Removes the segments of which all entries are too old.
    pub(super) fn remove_expired(&self, now_ms: u64) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.newest.0 >= now_ms.saturating_sub(self.limits.age_ms) {
            return self.remove_old(now_ms);
        }
        // The newest entry is too old, and so are all.
        open.file = None;
        self.list()?.iter().try_for_each(|(path, _)| std::fs::remove_file(path))
    }

    /// Makes what was appended durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        let file = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let is_dirty = std::mem::take(&mut open.is_dirty);
            open.file.as_ref().filter(|_| is_dirty).map(File::try_clone).transpose()?
        };
        file.map_or(Ok(()), |file| file.sync_data())
    }

    /// Paths of the segments with their sizes, the oldest first.
    fn list(&self) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == "ndjson") {
                found.push((entry.path(), entry.metadata()?.len()));
            }
        }
        found.sort();
        Ok(found)
    }

    fn remove_old(&self, now_ms: u64) -> io::Result<()> {
        let segments = self.list()?;
        let mut total: u64 = segments.iter().map(|(_, size)| size).sum();
        let oldest = now_ms.saturating_sub(self.limits.age_ms);
        // The entries of a segment end where the next one begins.
        for pair in segments.windows(2) {
            let too_old = time_of(name_of(&pair[1].0)).is_some_and(|ms| ms < oldest);
            if total + SEGMENT <= self.limits.bytes && !too_old {
                break;
            }
            std::fs::remove_file(&pair[0].0)?;
            total -= pair[0].1;
        }
        Ok(())
    }

    /// Entries older than `before`, the newest first: at most `limit` that `wanted` picks. Reads
    /// at most `segments` files; the page's cursor continues where that ended.
    pub(super) fn page(
        &self,
        before: Option<&str>,
        limit: usize,
        segments: usize,
        wanted: impl Fn(&AuditEntry) -> bool,
    ) -> io::Result<AuditPage> {
        let mut entries: Vec<AuditEntry> = Vec::new();
        let is_older = |id: &str| before.is_none_or(|before| id < before);
        let all = self.list()?;
        let mut older = all.iter().rev().filter(|(path, _)| is_older(name_of(path)));
        for (path, _) in older.by_ref().take(segments) {
            let mut of_file = read(path)?;
            of_file.retain(|entry| is_older(&entry.id) && wanted(entry));
            of_file.reverse();
            entries.extend(of_file);
            if entries.len() > limit {
                entries.truncate(limit);
                let next_cursor = entries.last().map(|last| last.id.clone());
                return Ok(AuditPage { entries, next_cursor });
            }
        }
        // Everything in the files that were read is newer than the name of the last one.
        let rest = older.next();
        let read_to = all.iter().rev().filter(|(path, _)| is_older(name_of(path)));
        let last = read_to.take(segments).last().map(|(path, _)| name_of(path).to_owned());
        Ok(AuditPage { entries, next_cursor: rest.and(last) })
    }
}

fn name_of(path: &Path) -> &str {
    path.file_stem().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The time of an id, milliseconds since the epoch.
fn time_of(id: &str) -> Option<u64> {
    id.parse::<EventId>().ok().map(|id| id.parts().0)
}

/// The entries of a segment. A line that is no entry is passed over: the last one of a process
/// that was killed, or of a newer version.
fn read(path: &Path) -> io::Result<Vec<AuditEntry>> {
    let file = match File::open(path) {
        // It was the oldest, and has been removed meanwhile.
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        file => file?,
    };
    let mut reader = BufReader::new(file);
    let (mut entries, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(entries);
        }
        entries.extend(serde_json::from_slice::<AuditEntry>(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::audit::AuditCaller;

    fn entry(n: u64, org: &str) -> AuditEntry {
        AuditEntry {
            id: String::new(),
            at: "x".repeat(1000),
            org: Some(org.into()),
            org_id: None,
            count: None,
            caller: AuditCaller::default(),
            method: "POST".into(),
            route: "/v1/apps".into(),
            path: n.to_string(),
            status: 200,
            peer: None,
            user_agent: None,
        }
    }

    /// All entries of an organization, page by page.
    fn all(log: &Segments, org: &str, limit: usize) -> Vec<u64> {
        let (mut found, mut cursor) = (Vec::new(), None);
        for _ in 0..100_000 {
            let wanted = |entry: &AuditEntry| entry.org.as_deref() == Some(org);
            let page = log.page(cursor.as_deref(), limit, 2, wanted).unwrap();
            assert!(page.entries.len() <= limit);
            found.extend(page.entries.iter().map(|entry| entry.path.parse::<u64>().unwrap()));
            cursor = page.next_cursor;
            if cursor.is_none() {
                return found;
            }
        }
        panic!("the pages have no end");
    }

    #[test]
    fn every_entry_is_on_one_page() {
        let dir = tempfile::tempdir().unwrap();
        let log = Segments::open(dir.path(), AuditLimits::default()).unwrap();
        assert_eq!(all(&log, "a", 10), [0; 0]);
        // More than two segments, of which one organization has few entries.
        for n in 0..12_000 {
            let org = if n % 1000 == 0 { "b" } else { "a" };
            log.append(entry(n, org), 1_000_000 + n).unwrap();
        }
        log.sync().unwrap();
        assert!(log.list().unwrap().len() > 2);
        let expected: Vec<u64> = (0..12).rev().map(|n| n * 1000).collect();
        for limit in [1, 3, 12, 100] {
            assert_eq!(all(&log, "b", limit), expected, "{limit}");
        }
        assert_eq!(all(&log, "a", 999).len(), 12_000 - 12);
    }

    #[test]
    fn a_killed_process_leaves_what_it_had_written() {
        let dir = tempfile::tempdir().unwrap();
        let log = Segments::open(dir.path(), AuditLimits::default()).unwrap();
        log.append(entry(1, "a"), 5).unwrap();
        // Half a line, as of a write that was cut off.
        let (path, _) = log.list().unwrap().pop().unwrap();
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"{\"id\":").unwrap();
        drop(log);
        let log = Segments::open(dir.path(), AuditLimits::default()).unwrap();
        log.append(entry(2, "a"), 0).unwrap();
        assert_eq!(all(&log, "a", 10), [2, 1]);
    }

    #[test]
    fn the_oldest_go_first_by_size_and_by_age() {
        let dir = tempfile::tempdir().unwrap();
        let limits = AuditLimits { bytes: 3 * SEGMENT, age_ms: u64::MAX };
        let log = Segments::open(dir.path(), limits).unwrap();
        for n in 0..30_000 {
            log.append(entry(n, "a"), 1_000_000 + n).unwrap();
        }
        let size: u64 = log.list().unwrap().iter().map(|(_, size)| size).sum();
        assert!(size <= limits.bytes, "{size}");
        let kept = all(&log, "a", 1000);
        assert_eq!(kept.first(), Some(&29_999));
        let expected: Vec<u64> = (30_000 - kept.len() as u64..30_000).rev().collect();
        assert_eq!(kept, expected, "without gaps");
        drop(log);
        let limits = AuditLimits { bytes: u64::MAX, age_ms: 1000 };
        let log = Segments::open(dir.path(), limits).unwrap();
        log.append(entry(100_000, "a"), 1_100_000).unwrap();
        let kept = all(&log, "a", 10_000);
        assert!(kept.len() < 5_000 && kept[0] == 100_000, "{}", kept.len());
    }

    #[test]
    fn entries_expire_while_none_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let limits = AuditLimits { bytes: u64::MAX, age_ms: 8000 };
        let log = Segments::open(dir.path(), limits).unwrap();
        for n in 0..20 {
            log.append(entry(n, "a"), 1_000_000 + n * 1000).unwrap();
        }
        // An eighth of the age longer than the limit at most.
        let kept = all(&log, "a", 100);
        assert!(kept.len() <= 12 && kept.len() >= 9 && kept[0] == 19, "{kept:?}");
        log.remove_expired(1_019_000 + 8000).unwrap();
        assert_eq!(all(&log, "a", 100)[0], 19);
        log.remove_expired(1_019_000 + 8001).unwrap();
        assert_eq!(log.list().unwrap(), []);
        log.append(entry(20, "a"), 1_030_000).unwrap();
        assert_eq!(all(&log, "a", 100), [20]);
    }

    #[test]
    fn after_a_failed_write_the_entry_is_in_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let log = Segments::open(dir.path(), AuditLimits::default()).unwrap();
        log.append(entry(1, "a"), 1000).unwrap();
        // A file that takes no write.
        log.open.lock().unwrap().file = Some(File::open(dir.path()).unwrap());
        log.append(entry(2, "a"), 2000).unwrap();
        assert_eq!(all(&log, "a", 10), [2, 1]);
        assert_eq!(log.list().unwrap().len(), 2);
    }

    #[test]
    fn what_cannot_be_tidied_takes_no_entry_away() {
        let dir = tempfile::tempdir().unwrap();
        let limits = AuditLimits { bytes: 1, age_ms: 8000 };
        let log = Segments::open(dir.path(), limits).unwrap();
        log.append(entry(1, "a"), 1000).unwrap();
        // The oldest file is to be removed, and is a directory.
        std::fs::create_dir(dir.path().join("0.ndjson")).unwrap();
        log.append(entry(2, "a"), 9000).unwrap();
        let newest = read(&log.list().unwrap().last().unwrap().0).unwrap();
        assert_eq!(newest[0].path, "2");
    }
}
