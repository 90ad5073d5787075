//! How much of the logs is kept: which segments go, by size and by age.

use super::files::LogFiles;
use std::time::Duration;

/// A segment takes no more lines once its first one is of this part of the age: it is removed
/// as a whole, when its last line is too old.
const SEAL: u32 = 8;
/// Largest segment.
const SEGMENT: u64 = 4 << 20;

/// How much of the logs of a host is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes of each log: of a machine, or of an app itself.
    pub log_bytes: u64,
    /// Bytes of all logs of the host.
    pub total_bytes: u64,
    /// Age of a line.
    pub age: Duration,
}

impl Default for LogLimits {
    /// 16 MiB of each log, 4 GiB of all, and 7 days
    /// (<https://fly.io/docs/monitoring/logs-api-options/>).
    fn default() -> Self {
        let age = Duration::from_secs(7 * 24 * 3600);
        Self { log_bytes: 16 << 20, total_bytes: 4 << 30, age }
    }
}

impl LogLimits {
    /// Bytes after which a segment is closed.
    pub(super) fn segment_bytes(&self) -> u64 {
        (self.log_bytes / 4).clamp(64 << 10, SEGMENT)
    }
}

/// What is done to a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    /// So many of the oldest segments are removed.
    pub(super) oldest: usize,
    /// The newest segment takes no more lines.
    pub(super) seal: bool,
}

/// What is done to each of these logs. The newest segment is removed only for its age, or when
/// all logs together are too large.
pub(super) fn plan(logs: &[(String, LogFiles)], limits: &LogLimits, now_ns: i64) -> Vec<Cut> {
    let mut cuts: Vec<Cut> = logs.iter().map(|(_, files)| cut_one(files, limits, now_ns)).collect();
    let kept = |(_, files): &(String, LogFiles), cut: &Cut| -> u64 {
        files.segments[cut.oldest..].iter().map(|segment| segment.bytes).sum()
    };
    let mut total: u64 = logs.iter().zip(&cuts).map(|(log, cut)| kept(log, cut)).sum();
    if total <= limits.total_bytes {
        return cuts;
    }
    let mut segments = Vec::new();
    for (at, (_, files)) in logs.iter().enumerate() {
        for (n, segment) in files.segments.iter().enumerate().skip(cuts[at].oldest) {
            segments.push((files.last_ns_of(n), at, segment.bytes));
        }
    }
    // Within one log the times grow, so those that are removed are always its oldest.
    segments.sort_unstable();
    for (_, at, bytes) in segments {
        if total <= limits.total_bytes {
            break;
        }
        total -= bytes;
        cuts[at].oldest += 1;
    }
    cuts
}

/// By the limits of each log.
pub(super) fn cut_one(files: &LogFiles, limits: &LogLimits, now_ns: i64) -> Cut {
    let age = i64::try_from(limits.age.as_nanos()).unwrap_or(i64::MAX);
    let too_old = now_ns.saturating_sub(age);
    let segments = files.segments.iter().enumerate();
    let aged = segments
        .take_while(|(n, segment)| segment.bytes > 0 && files.last_ns_of(*n) < too_old)
        .count();
    let mut bytes = files.bytes();
    let mut large = 0;
    for segment in files.segments.iter().take(files.segments.len().saturating_sub(1)) {
        if bytes <= limits.log_bytes {
            break;
        }
        bytes -= segment.bytes;
        large += 1;
    }
    let newest = files.segments.last();
    let begun = newest.filter(|newest| newest.bytes > 0).and_then(|newest| newest.first_ns);
    let seal_before = now_ns.saturating_sub(age / i64::from(SEAL));
    Cut { oldest: aged.max(large), seal: begun.is_some_and(|begun| begun < seal_before) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::files::Segment;

    /// Segments as (bytes, time of the last line).
    fn log(segments: &[(u64, i64)]) -> (String, LogFiles) {
        let (mut files, mut before_ns) = (LogFiles::default(), 0);
        for (n, (bytes, last_ns)) in segments.iter().enumerate() {
            let (first, first_ns) = (n as u64 * 10 + 1, Some(before_ns + 1));
            files.segments.push(Segment { first, before_ns, first_ns, bytes: *bytes });
            before_ns = *last_ns;
        }
        files.last_ns = before_ns;
        (String::new(), files)
    }

    fn planned(logs: &[(String, LogFiles)], now_ns: i64) -> Vec<(usize, bool)> {
        let age = Duration::from_nanos(800);
        let limits = LogLimits { log_bytes: 100, total_bytes: 250, age };
        let cuts = plan(logs, &limits, now_ns);
        cuts.into_iter().map(|cut| (cut.oldest, cut.seal)).collect()
    }

    #[test]
    fn segments_go_by_size_by_age_and_by_the_size_of_all() {
        let cases = [
            ("all fits", vec![log(&[(50, 10), (50, 20)])], 30, vec![(0, false)]),
            ("too large", vec![log(&[(50, 10), (50, 20), (1, 30)])], 40, vec![(1, false)]),
            ("the newest stays", vec![log(&[(200, 10)])], 20, vec![(0, false)]),
            ("too old", vec![log(&[(1, 10), (1, 20), (1, 900)])], 821, vec![(2, true)]),
            ("all of it too old", vec![log(&[(1, 10), (1, 20)])], 900, vec![(2, true)]),
            ("an empty one stays", vec![log(&[(1, 10), (0, 10)])], 900, vec![(1, false)]),
            ("sealed", vec![log(&[(1, 10)])], 200, vec![(0, true)]),
            (
                "the oldest of all logs",
                vec![
                    log(&[(90, 50)]),
                    log(&[(40, 5), (50, 40)]),
                    log(&[(30, 20), (60, 30)]),
                    log(&[]),
                ],
                60,
                vec![(0, false), (1, false), (0, false), (0, false)],
            ),
            (
                "also the newest of a log",
                vec![log(&[(90, 5)]), log(&[(90, 40)]), log(&[(90, 30)])],
                60,
                vec![(1, false), (0, false), (0, false)],
            ),
        ];
        for (name, logs, now, expected) in cases {
            assert_eq!(planned(&logs, now), expected, "{name}");
        }
    }
}
