//! The time of day, injected.
//!
//! Lengths of time are measured with `tokio::time`, which tests can pause; this
//! is only for moments that are shown, stored or compared across processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where moments come from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A manual clock: it shows `nanos` since the epoch until it is advanced.
    pub fn manual(nanos: i64) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(nanos))))
    }

    /// Moves a manual clock; the system's clock is not ours to move.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(nanos) = &self.0 {
            nanos.fetch_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// Nanoseconds since the epoch.
    pub fn now_ns(&self) -> i64 {
        match &self.0 {
            Source::Manual(nanos) => nanos.load(Ordering::Relaxed),
            Source::System => {
                #[expect(clippy::disallowed_methods, reason = "this is the door")]
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
            }
        }
    }

    /// Milliseconds since the epoch.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.now_ns() / 1_000_000).unwrap_or(0)
    }
}

/// `2026-11-20T23:08:25.123Z` for milliseconds since the epoch.
pub fn rfc3339(ms: u64) -> String {
    let (days, ms_of_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (s, ms) = (ms_of_day / 1000, ms_of_day % 1000);
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
}

/// Milliseconds since the epoch of a moment such as `2026-11-20T23:08:25.123Z` or
/// `2026-11-20T23:08:25+01:00` (RFC 3339, section 5.6); `None` for other texts and for
/// moments before the epoch. Parts of a millisecond are cut off.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let separated = [(4, "-"), (7, "-"), (13, ":"), (16, ":")];
    let is_separated = separated.iter().all(|(at, by)| text.get(*at..at + 1) == Some(by));
    if !is_separated || !matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let days = days_of(year, month, day)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let digits = rest
        .strip_prefix('.')
        .map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    if digits == 0 && rest.starts_with('.') {
        return None;
    }
    let fraction = if digits == 0 { "" } else { rest.get(1..=digits)? };
    let ms: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let zone = rest.get(if digits == 0 { 0 } else { digits + 1 }..)?;
    let at = ((days * 24 + hour) * 60 + minute) * 60 + second;
    let utc = at.checked_add_signed(-offset_secs(zone)?)?;
    Some(utc * 1000 + ms)
}

/// Seconds that a zone is ahead of UTC.
fn offset_secs(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let part = |text: &str, most: i64| -> Option<i64> {
        let is_number = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        let number = is_number.then(|| text.parse().ok())??;
        (number <= most).then_some(number)
    };
    Some(sign * (part(hours, 23)? * 3600 + part(minutes, 59)? * 60))
}

/// Days since 1970-01-01 of a date, if there is such a date (H. Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `days_from_civil`).
fn days_of(year: u64, month: u64, day: u64) -> Option<u64> {
    let shifted = if month <= 2 { year.checked_sub(1)? } else { year };
    let era = shifted / 400;
    let yoe = shifted - era * 400;
    let doy =
        (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day.checked_sub(1)?;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    let days = (era * 146_097 + doe).checked_sub(719_468)?;
    // A day that the month does not have is one of the next month.
    (civil(days) == (year, month, day)).then_some(days)
}

/// Days since 1970-01-01 as year, month, day (H. Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_in_words() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_219_705_123, "2026-11-21T00:08:25.123Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
            assert_eq!(parse_rfc3339(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn moments_are_parsed_by_the_table() {
        for (text, ms) in [
            ("2026-11-21T00:08:25Z", Some(1_795_219_705_000)),
            ("2026-11-21t00:08:25.5z", Some(1_795_219_705_500)),
            ("2026-11-21T01:38:25.123456+01:30", Some(1_795_219_705_123)),
            ("2026-11-20T19:08:25-05:00", Some(1_795_219_705_000)),
            ("1969-12-31T23:59:59Z", None),
            ("2026-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-11-00T00:00:00Z", None),
            ("2026-11-21T24:00:00Z", None),
            ("2026-11-21T00:08:25", None),
            ("2026-11-21T00:08:25.Z", None),
            ("2026-11-21T00:08:25+0130", None),
            ("2026-11-21T00:08:25Zx", None),
            ("+026-11-21T00:08:25Z", None),
            ("2026-11-21", None),
            ("äöü6-11-21T00:08:25Z", None),
            ("", None),
        ] {
            assert_eq!(parse_rfc3339(text), ms, "{text}");
        }
    }

    #[test]
    fn a_manual_clock_does_not_advance_by_itself() {
        let clock = Clock::manual(5_000_000);
        assert_eq!(clock.now_ms(), 5);
        clock.advance(Duration::from_millis(7));
        assert_eq!(clock.now_ms(), 12);
    }
}
