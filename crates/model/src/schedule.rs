//! Schedules: when a machine runs next, and what follows if it cannot.
//!
//! Local times that a change of the clocks skips run at the first moment after it; those
//! that it repeats run once, the first time, unless the expression means every hour
//! (the rules of Vixie cron, as the crate `croner` keeps them).

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Zoned};
use std::time::Duration;

/// Longest expression.
pub const MAX_EXPRESSION: usize = 128;
/// A run that is later than this has been missed.
pub const LATE: Duration = Duration::from_secs(60);
/// A clock that was set back by more begins again; by less, no run is repeated.
const SET_BACK: Duration = Duration::from_secs(24 * 3600);

/// The names of periods (<https://fly.io/docs/machines/flyctl/fly-machine-run/>).
pub const PERIODS: [&str; 4] = ["hourly", "daily", "weekly", "monthly"];

/// When a machine runs.
#[derive(Clone, Debug)]
pub struct Schedule {
    rule: Rule,
    zone: TimeZone,
}

#[derive(Clone, Debug)]
enum Rule {
    /// Every period from the creation of the machine on.
    Every(Period),
    /// A cron expression of five fields.
    Cron(Box<Cron>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Period {
    Hour,
    Day,
    Week,
    Month,
}

/// Why a schedule is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Neither a period nor five fields.
    #[error(
        "must be hourly, daily, weekly, monthly or a cron expression of five fields (minute hour \
         day month weekday)"
    )]
    Form,
    /// A field of the expression is wrong.
    #[error("is no cron expression: {0}")]
    Field(String),
    /// No date matches it.
    #[error("never comes about")]
    Never,
    /// The zone is not known.
    #[error("must be a time zone of the IANA database, such as Europe/Berlin or UTC")]
    Zone,
}

/// What to do with a run that is due while another is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// Leave it out.
    #[default]
    Skip,
    /// Begin it when the other has ended; one run waits at most.
    Queue,
    /// Stop the other and begin it.
    Replace,
}

impl Overlap {
    /// All of them, by the names of the API.
    pub const NAMES: [&str; 3] = ["skip", "queue", "replace"];

    /// From its name in the API.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "skip" => Some(Self::Skip),
            "queue" => Some(Self::Queue),
            "replace" => Some(Self::Replace),
            _ => None,
        }
    }
}

/// What to do about runs that were missed, as while the host was down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Misfire {
    /// Leave them out.
    Skip,
    /// Run once for all of them.
    #[default]
    RunOnce,
}

impl Misfire {
    /// All of them, by the names of the API.
    pub const NAMES: [&str; 2] = ["skip", "run_once"];

    /// From its name in the API.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "skip" => Some(Self::Skip),
            "run_once" => Some(Self::RunOnce),
            _ => None,
        }
    }
}

/// What a schedule asks for at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing before this moment.
    At(u64),
    /// A run that was due at this moment.
    Now(u64),
    /// Runs have been missed, the first at this moment.
    Missed(u64),
    /// The clock was set back far: look again from now on.
    Reset,
    /// Nothing, ever.
    Never,
}

impl Schedule {
    /// From a config: a period or a cron expression, in a time zone (UTC if absent).
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let zone = match zone.filter(|zone| !zone.is_empty()) {
            None => TimeZone::UTC,
            Some(name) if name.len() <= 64 => {
                TimeZone::get(name).map_err(|_| ScheduleError::Zone)?
            }
            Some(_) => return Err(ScheduleError::Zone),
        };
        let period = match text {
            "hourly" => Some(Period::Hour),
            "daily" => Some(Period::Day),
            "weekly" => Some(Period::Week),
            "monthly" => Some(Period::Month),
            _ => None,
        };
        let rule = match period {
            Some(period) => Rule::Every(period),
            None => Rule::Cron(Box::new(cron(text)?)),
        };
        let schedule = Self { rule, zone };
        // A date of each year, and the 29th of February, comes within eight years.
        let never = schedule.next_after(0, 0).is_none();
        if never { Err(ScheduleError::Never) } else { Ok(schedule) }
    }

    /// The first moment after `after_ms`; `anchor_ms` is where periods begin. Milliseconds
    /// since the epoch.
    pub fn next_after(&self, after_ms: u64, anchor_ms: u64) -> Option<u64> {
        match &self.rule {
            Rule::Every(period) => self.next_period(*period, after_ms, anchor_ms),
            Rule::Cron(cron) => {
                let after = self.zoned(after_ms)?;
                let next = cron.find_next_occurrence(&after, false).ok()?;
                u64::try_from(next.timestamp().as_millisecond()).ok()
            }
        }
    }

    /// What is due at `now_ms`, where everything up to `done_ms` has been dealt with.
    pub fn due(&self, done_ms: u64, now_ms: u64, anchor_ms: u64) -> Due {
        if done_ms > now_ms.saturating_add(SET_BACK.as_millis() as u64) {
            return Due::Reset;
        }
        match self.next_after(done_ms, anchor_ms) {
            None => Due::Never,
            Some(next) if next > now_ms => Due::At(next),
            Some(next) if now_ms - next > LATE.as_millis() as u64 => Due::Missed(next),
            Some(next) => Due::Now(next),
        }
    }

    fn zoned(&self, ms: u64) -> Option<Zoned> {
        let timestamp = Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
        Some(timestamp.to_zoned(self.zone.clone()))
    }

    fn next_period(&self, period: Period, after_ms: u64, anchor_ms: u64) -> Option<u64> {
        const HOUR: u64 = 3_600_000;
        if period == Period::Hour {
            let periods = after_ms.saturating_sub(anchor_ms) / HOUR + 1;
            return Some(anchor_ms + periods * HOUR).filter(|next| *next > after_ms);
        }
        let anchor = self.zoned(anchor_ms)?;
        // Never above the right number: days and months may be longer than this.
        let longest = match period {
            Period::Hour | Period::Day => 25 * HOUR,
            Period::Week => (7 * 24 + 1) * HOUR,
            Period::Month => (31 * 24 + 1) * HOUR,
        };
        let least = i64::try_from(after_ms.saturating_sub(anchor_ms) / longest).ok()?;
        let nth = |n: i64| {
            let span: Span = match period {
                Period::Hour | Period::Day => n.days(),
                Period::Week => n.weeks(),
                Period::Month => n.months(),
            };
            let moment = anchor.checked_add(span).ok()?;
            u64::try_from(moment.timestamp().as_millisecond()).ok()
        };
        // The estimate is a few per cent below the right number.
        let (mut low, mut high) = (least.max(1), (least + least / 8 + 2).max(2));
        while low < high {
            let middle = low + (high - low) / 2;
            match nth(middle)? > after_ms {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        nth(low)
    }
}

fn cron(text: &str) -> Result<Cron, ScheduleError> {
    let plain = text.len() <= MAX_EXPRESSION && text.is_ascii() && !text.contains('@');
    if !plain || text.split_ascii_whitespace().count() != 5 {
        return Err(ScheduleError::Form);
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(text).map_err(|err| ScheduleError::Field(err.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond().try_into().unwrap()
    }

    /// The next `count` moments after `after`, as UTC.
    fn next(schedule: &str, zone: &str, after: &str, count: usize) -> String {
        let schedule = Schedule::parse(schedule, Some(zone)).unwrap();
        let mut at = ms(after);
        let anchor = at;
        let mut out = Vec::new();
        for _ in 0..count {
            at = schedule.next_after(at, anchor).unwrap();
            out.push(Timestamp::from_millisecond(at as i64).unwrap().to_string());
        }
        out.join(" ")
    }

    #[test]
    fn periods_begin_at_the_creation_and_expressions_at_their_minute() {
        for (schedule, zone, after, expected) in [
            ("hourly", "UTC", "2026-01-31T10:20:30Z", "2026-01-31T11:20:30Z 2026-01-31T12:20:30Z"),
            ("daily", "UTC", "2026-01-31T10:20:30Z", "2026-02-01T10:20:30Z 2026-02-02T10:20:30Z"),
            ("weekly", "UTC", "2026-01-31T10:20:30Z", "2026-02-07T10:20:30Z 2026-02-14T10:20:30Z"),
            // The 31st, or the last day of the month.
            ("monthly", "UTC", "2026-01-31T10:20:30Z", "2026-02-28T10:20:30Z 2026-03-31T10:20:30Z"),
            (
                "*/15 * * * *",
                "UTC",
                "2026-01-31T10:20:30Z",
                "2026-01-31T10:30:00Z 2026-01-31T10:45:00Z",
            ),
            (
                "0 9 * * MON-FRI",
                "UTC",
                "2026-01-30T10:00:00Z",
                "2026-02-02T09:00:00Z 2026-02-03T09:00:00Z",
            ),
            (
                "0 9 * * *",
                "Asia/Kolkata",
                "2026-01-30T10:00:00Z",
                "2026-01-31T03:30:00Z 2026-02-01T03:30:00Z",
            ),
            (
                "0 0 29 2 *",
                "UTC",
                "2026-01-30T10:00:00Z",
                "2028-02-29T00:00:00Z 2032-02-29T00:00:00Z",
            ),
        ] {
            assert_eq!(next(schedule, zone, after, 2), expected, "{schedule}");
        }
    }

    #[test]
    fn a_local_hour_that_is_skipped_or_doubled() {
        // Clocks go from 02:00 to 03:00 on 29 March 2026, and back on 25 October.
        let berlin = |schedule: &str, after: &str, n| next(schedule, "Europe/Berlin", after, n);
        assert_eq!(
            berlin("30 2 * * *", "2026-03-28T12:00:00Z", 2),
            "2026-03-29T01:00:00Z 2026-03-30T00:30:00Z",
            "the skipped run comes with the first moment after the gap"
        );
        assert_eq!(
            berlin("30 2 * * *", "2026-10-24T12:00:00Z", 2),
            "2026-10-25T00:30:00Z 2026-10-26T01:30:00Z",
            "the doubled run comes once"
        );
        assert_eq!(
            berlin("30 * * * *", "2026-10-24T23:45:00Z", 3),
            "2026-10-25T00:30:00Z 2026-10-25T01:30:00Z 2026-10-25T02:30:00Z",
            "every hour is every hour"
        );
        assert_eq!(
            berlin("daily", "2026-03-28T12:00:00Z", 2),
            "2026-03-29T11:00:00Z 2026-03-30T11:00:00Z",
            "a day keeps its local time"
        );
    }

    #[test]
    fn schedules_that_are_refused() {
        let refused = |text: &str, zone| Schedule::parse(text, zone).unwrap_err();
        for text in ["yearly", "", "@daily", "* * * *", "* * * * * *", "0 0 0 0 0 0 0"] {
            assert_eq!(refused(text, None), ScheduleError::Form, "{text}");
        }
        assert!(matches!(refused("61 * * * *", None), ScheduleError::Field(_)));
        assert!(matches!(refused("x * * * *", None), ScheduleError::Field(_)));
        assert_eq!(refused("0 0 30 2 *", None), ScheduleError::Never);
        assert_eq!(refused("daily", Some("Mars/Olympus")), ScheduleError::Zone);
        assert_eq!(refused(&format!("{} * * * *", "1,".repeat(99)), None), ScheduleError::Form);
    }

    #[test]
    fn what_is_due() {
        let schedule = Schedule::parse("0 * * * *", None).unwrap();
        let due = |done: &str, now: &str| schedule.due(ms(done), ms(now), 0);
        let ten = ms("2026-01-01T10:00:00Z");
        assert_eq!(due("2026-01-01T09:30:00Z", "2026-01-01T09:59:59Z"), Due::At(ten));
        assert_eq!(due("2026-01-01T09:30:00Z", "2026-01-01T10:00:00Z"), Due::Now(ten));
        assert_eq!(due("2026-01-01T09:30:00Z", "2026-01-01T10:01:00Z"), Due::Now(ten));
        assert_eq!(due("2026-01-01T09:30:00Z", "2026-01-01T10:01:01Z"), Due::Missed(ten));
        assert_eq!(due("2026-01-01T09:30:00Z", "2026-01-05T00:00:00Z"), Due::Missed(ten));
        // The clock was set back by an hour: the run is not repeated.
        let eleven = ms("2026-01-01T11:00:00Z");
        assert_eq!(due("2026-01-01T10:00:00Z", "2026-01-01T09:00:00Z"), Due::At(eleven));
        assert_eq!(due("2026-01-03T10:00:00Z", "2026-01-01T09:00:00Z"), Due::Reset);
    }
}
