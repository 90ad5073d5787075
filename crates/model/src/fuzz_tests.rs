//! Fuzz target: cron expressions and time zones of a config.

use crate::schedule::Schedule;
use fuzzing::fuzz;

/// 2026-11-29, and a moment in the last hour before a night in spring that lacks one.
const MOMENTS: [u64; 2] = [1_795_910_400_000, 1_774_747_800_000];

#[test]
fn schedules_of_clients() {
    let seeds = [
        "hourly",
        "monthly",
        "*/5 * * * *",
        "0 3 * * 1-5",
        "30 2 29 2 *",
        "0 0 L * *",
        "15,45 */2 1 1,7 SUN",
        "@daily",
        "0 12 * * MON#2\nEurope/Berlin",
        "30 2 * * *\nAmerica/New_York",
        "59 23 31 12 *\nUTC",
    ];
    fuzz!(3000, seeds, |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let (rule, zone) = match text.split_once('\n') {
            Some((rule, zone)) => (rule, Some(zone)),
            None => (&*text, None),
        };
        let Ok(schedule) = Schedule::parse(rule, zone) else { return };
        for moment in MOMENTS {
            let next = schedule.next_after(moment, MOMENTS[0]);
            assert!(next.is_none_or(|next| next > moment), "{text:?} after {moment}: {next:?}");
        }
    });
}
