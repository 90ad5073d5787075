//! Names of segments.

use camino::{Utf8Path, Utf8PathBuf};

/// How the name of the log of an app itself begins; those of machines are their ids.
pub(crate) const APP: &str = "app-";

/// A segment, as its name shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) log: String,
    /// The number of the first line, or of the next one if it is empty.
    pub(super) first: u64,
    /// The time of the line before it, nanoseconds since the epoch; 0 if there is none.
    pub(super) before_ns: i64,
}

impl Name {
    /// `None` for a file that is no segment.
    pub(super) fn parse(file_name: &str) -> Option<Self> {
        let mut parts = file_name.strip_suffix(".log")?.splitn(3, '.');
        let (log, first, before) = (parts.next()?, parts.next()?, parts.next()?);
        let (first, before_ns) = (first.parse().ok()?, before.parse().ok()?);
        (!log.is_empty()).then(|| Self { log: log.into(), first, before_ns })
    }
}

/// The path of a segment of the log `log`.
pub(in crate::logs) fn path(dir: &Utf8Path, log: &str, first: u64, before_ns: i64) -> Utf8PathBuf {
    dir.join(format!("{log}.{first:020}.{:019}.log", before_ns.max(0)))
}

/// The log of a file of version 0.1, which had two segments per log: the one that was written
/// and the one before it.
pub(super) fn legacy(file_name: &str) -> Option<&str> {
    let log = file_name.strip_suffix(".log").or_else(|| file_name.strip_suffix(".log.1"))?;
    (!log.is_empty() && !log.contains('.')).then_some(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        let path = path(Utf8Path::new("/logs"), "app-7", 41, 1_800_000_000_000_000_000);
        let name = Name::parse(path.file_name().unwrap()).unwrap();
        let expected =
            Name { log: "app-7".into(), first: 41, before_ns: 1_800_000_000_000_000_000 };
        assert_eq!(name, expected);
        for other in ["m1.log", "m1.log.1", ".m1.1.2.log", "m1.x.1.log", "m1.1.log", "m1"] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
        let legacy: Vec<_> =
            ["m1.log", "m1.log.1", "m1.1.1.log", ".log", "x.tmp"].map(legacy).into();
        assert_eq!(legacy, [Some("m1"), Some("m1"), None, None, None]);
    }
}
