//! Lengths and moments of time, and sizes in words.

use std::time::Duration;

/// Go's `1m30s`, or plain seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(secs) = text.parse::<u32>() {
        return Ok(Duration::from_secs(secs.into()));
    }
    wire::machines::parse_go(text)
        .ok_or_else(|| format!("{text:?} is no length of time; write 30s, 5m or 1h30m"))
}

/// Nanoseconds or milliseconds of a log or event as RFC 3339 in UTC.
pub(crate) fn moment(ms: i64) -> String {
    rt::clock::rfc3339(u64::try_from(ms).unwrap_or(0))
}

/// A size such as `30 MB`: decimal, two digits at most.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: &[&str] = &["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 9.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        for (text, secs) in [("5", Some(5)), ("5m0s", Some(300)), ("1h", Some(3600)), ("x", None)] {
            assert_eq!(duration(text).ok().map(|d| d.as_secs()), secs, "{text}");
        }
    }

    #[test]
    fn sizes_in_words() {
        let cases = [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (30_000_000, "30 MB")];
        for (bytes, words) in cases {
            assert_eq!(human_bytes(bytes), words);
        }
    }
}
