//! Followed logs over daemons that are killed.

use crate::daemon::Settings;
use crate::lab::{APP, Lab, user};
use futures_util::StreamExt;
use host_api::Logs;
use wire::logs::{LogEntry, LogQuery};

/// The lines of the app after a time, until one has this text.
fn follow(lab: &Lab, after: i64, last: &str) -> Vec<LogEntry> {
    let query = LogQuery { after: Some(after), follow: true, ..LogQuery::default() };
    let worker = lab.worker();
    lab.run(async {
        let mut lines = worker.logs(user(), APP, query).await.unwrap();
        let mut read: Vec<LogEntry> = Vec::new();
        while read.last().is_none_or(|line| line.message != last) {
            read.push(lines.next().await.expect("it is followed"));
        }
        read
    })
}

#[test]
fn a_reader_that_continues_over_daemons_misses_no_line_and_gets_none_twice() {
    let mut lab = Lab::new(Settings::default());
    lab.script("create m1 serve; create m2 serve; wait m1 started; wait m2 started");
    let mut read: Vec<LogEntry> = Vec::new();
    let mut expected = Vec::new();
    for round in 0..4 {
        let texts = ["before", "last before", "without", "after"].map(|s| format!("{s} {round}"));
        let [before, last_before, without, after] = &texts;
        let place = |read: &[LogEntry]| read.last().map_or(0, |line| line.timestamp);
        lab.script(&format!("guest m1 log {before}; guest m2 log {last_before}"));
        // Some have been read when the daemon is killed, some have not.
        if round % 2 == 0 {
            let from = place(&read);
            read.extend(follow(&lab, from, before));
        }
        lab.script(&format!("kill; guest m1 log {without}; daemon; guest m1 log {after}"));
        let from = place(&read);
        read.extend(follow(&lab, from, after));
        expected.extend([before.clone(), without.clone(), after.clone()]);
    }
    assert!(read.windows(2).all(|two| two[0].timestamp < two[1].timestamp), "{read:#?}");
    let of = |instance: String| {
        let lines = read.iter().filter(|line| line.provider == "app" && line.instance == instance);
        lines.map(|line| line.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of(lab.id("m1").to_string()), expected);
    let others = of(lab.id("m2").to_string());
    assert!(others.iter().cloned().eq((0..4).map(|n| format!("last before {n}"))), "{others:?}");
}
