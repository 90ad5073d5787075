//! The store as a whole: what is written, kept, and found.

use super::*;
use futures_util::StreamExt;

fn store(dir: &tempfile::TempDir, clock: &Clock) -> Arc<LogStore> {
    limited(dir, clock, LogLimits::default())
}

fn limited(dir: &tempfile::TempDir, clock: &Clock, limits: LogLimits) -> Arc<LogStore> {
    let path = Utf8PathBuf::from_path_buf(dir.path().into()).unwrap();
    let (clock, failures) = (clock.clone(), FailureHandler::abort());
    Arc::new(LogStore::open(path, "here".into(), limits, clock, failures).unwrap())
}

/// The files of a log, oldest first.
fn files_of(dir: &tempfile::TempDir, log: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: &std::path::PathBuf| {
        path.file_name().unwrap().to_string_lossy().starts_with(&format!("{log}."))
    };
    let mut files: Vec<_> = entries.filter(of).collect();
    files.sort();
    files
}

/// Returns once everything logged so far is written.
async fn flush(store: &Arc<LogStore>) {
    let none = store.query(Vec::new(), "none", &LogQuery::default()).await.unwrap();
    assert_eq!(none.count().await, 0);
}

async fn all(store: &Arc<LogStore>, query: LogQuery) -> Vec<String> {
    let machines = match &query.instance {
        Some(only) => vec![only.clone()],
        None => vec!["m1".to_owned(), "m2".to_owned()],
    };
    let lines = store.query(machines, "web", &query).await.unwrap();
    lines.map(|e| e.message).collect::<Vec<_>>().await
}

#[tokio::test]
async fn lines_are_cut_kept_and_filtered() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
    let store = store(&dir, &clock);
    store.bytes("web", "m1", LogStream::Stdout, b"one\ntw");
    clock.advance(Duration::from_millis(1));
    store.bytes("web", "m2", LogStream::Stderr, b"other\n");
    clock.advance(Duration::from_millis(1));
    store.bytes("web", "m1", LogStream::Stdout, b"o\r\n");
    assert_eq!(all(&store, LogQuery::default()).await, ["one", "other", "two"]);
    let only = LogQuery { instance: Some("m1".into()), tail: Some(1), ..LogQuery::default() };
    assert_eq!(all(&store, only).await, ["two"]);
    let after = LogQuery { after: Some(1_000_000), ..LogQuery::default() };
    assert_eq!(all(&store, after).await, ["two"]);
}

#[tokio::test]
async fn a_flood_is_bounded_and_counted() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
    let store = store(&dir, &clock);
    let lines = [b"x".repeat(1000), b"\n".to_vec()].concat().repeat(100);
    for _ in 0..200 {
        store.bytes("web", "m1", LogStream::Stdout, &lines);
        // So that nothing is dropped before it reaches the writer.
        flush(&store).await;
    }
    clock.advance(Duration::from_secs(5));
    store.bytes("web", "m1", LogStream::Stdout, b"after\n");
    let lines = all(&store, LogQuery::default()).await;
    assert!(lines.len() < 10_000);
    assert_eq!(lines.last().unwrap(), "after");
    let dropped: u64 = lines[lines.len() - 2].split(' ').next().unwrap().parse().expect("a count");
    assert_eq!(dropped as usize + lines.len() - 2, 20_000);
}

#[tokio::test]
async fn what_the_guest_dropped_is_one_line_at_the_end() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
    let store = store(&dir, &clock);
    for _ in 0..1000 {
        store.guest_dropped("web", "m1", 3);
    }
    store.end_streams("m1");
    let lines = all(&store, LogQuery::default()).await;
    assert_eq!(lines, ["3000 bytes of output were dropped: too fast"]);
}

#[tokio::test]
async fn a_follower_misses_nothing_and_a_new_store_continues_the_count() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
    let first = store(&dir, &clock);
    first.bytes("web", "m1", LogStream::Stdout, b"a\n");
    drop(first);
    let second = store(&dir, &clock);
    let query = LogQuery { follow: true, ..LogQuery::default() };
    let mut lines = second.query(vec!["m1".to_owned()], "web", &query).await.unwrap();
    second.bytes("web", "m1", LogStream::Stdout, b"b\n");
    let got = [lines.next().await.unwrap(), lines.next().await.unwrap()];
    assert_eq!(got.each_ref().map(|e| (e.offset, e.message.as_str())), [(1, "a"), (2, "b")]);
}

#[tokio::test]
async fn empty_lines_have_a_cost() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
    let store = store(&dir, &clock);
    for _ in 0..16 {
        store.bytes("web", "m1", LogStream::Stdout, &[b'\n'; 4096]);
        flush(&store).await;
    }
    let kept = all(&store, LogQuery { after: Some(-1), ..LogQuery::default() }).await.len();
    assert_eq!(kept, 10_000, "a page");
    store.end_streams("m1");
    let last = all(&store, LogQuery { tail: Some(1), ..LogQuery::default() }).await;
    let dropped = 16 * 4096 - (4 << 20) / 256;
    assert_eq!(last, [format!("{dropped} lines were dropped: more than 1048576 bytes/s")]);
}

#[tokio::test]
async fn more_than_may_wait_is_dropped_and_counted() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
    let store = store(&dir, &clock);
    store.bytes("web", "m1", LogStream::Stdout, &vec![b'x'; QUEUED + 1]);
    store.bytes("web", "m1", LogStream::Stdout, b"next\n");
    let text = format!("{} bytes of output were dropped: too fast", QUEUED + 1);
    assert_eq!(all(&store, LogQuery::default()).await, [text, "next".into()]);
}

#[tokio::test]
async fn pages_continue_where_the_last_one_ended() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1));
    let store = store(&dir, &clock);
    for n in 0..12_000 {
        store.line("web", "m1", "runner", &n.to_string());
        clock.advance(Duration::from_nanos(1));
        if n % 4000 == 3999 {
            flush(&store).await;
        }
    }
    let (mut after, mut got) = (0, Vec::new());
    loop {
        let query = LogQuery { after: Some(after), ..LogQuery::default() };
        let page = store.query(vec!["m1".into()], "web", &query).await.unwrap();
        let page: Vec<_> = page.collect().await;
        let Some(last) = page.last() else { break };
        after = last.timestamp;
        got.extend(page.into_iter().map(|entry| entry.message));
    }
    let expected: Vec<_> = (0..12_000).map(|n| n.to_string()).collect();
    assert!(got == expected, "{} lines", got.len());
}

#[tokio::test]
async fn a_follower_that_comes_back_gets_all_that_it_has_missed() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1));
    let store = store(&dir, &clock);
    for n in 0..12_000 {
        store.line("web", "m1", "runner", &n.to_string());
        if n % 4000 == 3999 {
            flush(&store).await;
        }
    }
    // All lines are of one moment, as those of one piece of output are.
    let query = LogQuery { after: Some(0), follow: true, ..LogQuery::default() };
    let lines = store.query(vec!["m1".into()], "web", &query).await.unwrap();
    store.line("web", "m1", "runner", "12000");
    let lines: Vec<_> = lines.take(12_001).map(|entry| entry.message).collect().await;
    let expected: Vec<_> = (0..=12_000).map(|n| n.to_string()).collect();
    assert!(lines == expected, "{} lines", lines.len());
}

#[tokio::test]
async fn a_page_is_bounded_in_bytes_and_a_follower_gets_one_after_the_other() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1));
    let store = store(&dir, &clock);
    let long = "x".repeat(LINE - 5);
    for n in 0..500 {
        store.line("web", "m1", "runner", &format!("{n:05}{long}"));
        if n % 100 == 99 {
            flush(&store).await;
        }
    }
    let number = |entry: LogEntry| entry.message[..5].parse::<usize>().unwrap();
    let page = LogQuery { after: Some(0), ..LogQuery::default() };
    let lines = store.query(vec!["m1".into()], "web", &page).await.unwrap();
    let lines: Vec<_> = lines.map(number).collect().await;
    let expected = (4 << 20) / (LINE + 128);
    assert_eq!(lines, (0..expected).collect::<Vec<_>>());
    let newest = LogQuery { tail: Some(10_000), ..LogQuery::default() };
    let lines = store.query(vec!["m1".into()], "web", &newest).await.unwrap();
    let lines: Vec<_> = lines.map(number).collect().await;
    assert_eq!(lines, (500 - expected..500).collect::<Vec<_>>());
    let all = LogQuery { follow: true, ..page };
    let mut lines = store.query(vec!["m1".into()], "web", &all).await.unwrap().map(number);
    assert_eq!(lines.next().await, Some(0));
    // Nothing beyond the first page is held: the rest is read when it is asked for.
    files_of(&dir, "m1").iter().for_each(|file| std::fs::remove_file(file).unwrap());
    store.line("web", "m1", "runner", "00500");
    let rest: Vec<_> = lines.take(expected).collect().await;
    assert_eq!(rest, (1..expected).chain([500]).collect::<Vec<_>>());
}

#[tokio::test]
async fn queries_of_one_app_are_bounded_in_number() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1));
    let store = store(&dir, &clock);
    let query = LogQuery { follow: true, ..LogQuery::default() };
    let mut followers = Vec::new();
    for _ in 0..read::QUERIES {
        followers.push(store.query(vec!["m1".into()], "web", &query).await.unwrap());
    }
    let refused = store.query(vec!["m1".into()], "web", &query).await;
    assert_eq!(refused.map(drop), Err(TooManyQueries));
    assert!(store.query(vec!["m9".into()], "other", &query).await.is_ok());
    followers.pop();
    assert!(store.query(vec!["m1".into()], "web", &query).await.is_ok());
}

#[tokio::test]
async fn numbered_output_that_is_dropped_is_counted() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
    let store = store(&dir, &clock);
    let boot = Some(model::id::BootId::new(1, 1));
    let append = |offset, data: &[u8]| {
        let (app, machine, stream) = ("web", "m1", LogStream::Stdout);
        let (acknowledge, acknowledged) = tokio::sync::oneshot::channel();
        let (channel, meta) = (stream.into(), None);
        let log = GuestLog { app, machine, boot, channel, meta, offset, data };
        store.append_guest(&log, |stored| acknowledge.send(stored).unwrap_or_default());
        acknowledged
    };
    let flood = vec![b'x'; QUEUED + 1];
    assert!(append(0, &flood).await.is_err(), "it is not acknowledged by itself");
    let end = flood.len() as u64;
    assert_eq!(append(end, b"next\n").await, Ok(end + 5), "the guest may forget both");
    let text = format!("{} bytes of output were dropped: too fast", flood.len());
    assert_eq!(all(&store, LogQuery::default()).await, [text, "next".into()]);
}

#[tokio::test]
async fn what_cannot_be_written_is_not_acknowledged_until_it_is() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
    let store = store(&dir, &clock);
    // No file can be written there.
    let blocked = files::path(&store.dir, "m1", 1, 0);
    std::fs::create_dir(&blocked).unwrap();
    let boot = Some(model::id::BootId::new(1, 1));
    let append = |offset, data| {
        let (app, machine, stream) = ("web", "m1", LogStream::Stdout);
        let (acknowledge, acknowledged) = tokio::sync::oneshot::channel();
        let (channel, meta) = (stream.into(), None);
        let log = GuestLog { app, machine, boot, channel, meta, offset, data };
        store.append_guest(&log, |stored| acknowledge.send(stored).unwrap_or_default());
        acknowledged
    };
    let mut first = append(0, b"one\n");
    flush(&store).await;
    assert!(first.try_recv().is_err());
    std::fs::remove_dir(&blocked).unwrap();
    assert_eq!(append(4, b"two\n").await, Ok(8));
    assert_eq!(first.await, Ok(4));
    assert_eq!(all(&store, LogQuery::default()).await, ["one", "two"]);
}

#[tokio::test]
async fn a_follower_gets_only_what_it_asked_for() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(5));
    let store = store(&dir, &clock);
    let elsewhere =
        LogQuery { follow: true, region: Some("nowhere".into()), ..LogQuery::default() };
    let late = LogQuery { follow: true, after: Some(5), ..LogQuery::default() };
    let mut elsewhere = store.query(vec!["m1".into()], "web", &elsewhere).await.unwrap();
    let mut late = store.query(vec!["m1".into()], "web", &late).await.unwrap();
    store.line("web", "m1", "runner", "at five");
    clock.advance(Duration::from_nanos(1));
    store.line("web", "m1", "runner", "at six");
    assert_eq!(late.next().await.unwrap().message, "at six");
    // Both have been sent by now.
    let next = futures_util::poll!(elsewhere.next());
    assert!(next.is_pending(), "another region's follower gets nothing");
}

#[tokio::test]
async fn an_unfinished_last_line_is_kept_and_a_destroyed_machines_log_is_cut() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
    let store = store(&dir, &clock);
    store.bytes("web", "m1", LogStream::Stderr, b"begin\npanic: out of cheese");
    store.end_streams("m1");
    assert_eq!(all(&store, LogQuery::default()).await, ["begin", "panic: out of cheese"]);
    for n in 0..2000 {
        store.line("web", "m1", "runner", &format!("{n:0100}"));
    }
    all(&store, LogQuery::default()).await;
    store.trim("m1");
    let lines = all(&store, LogQuery::default()).await;
    assert!((100..1000).contains(&lines.len()), "{} lines", lines.len());
    assert_eq!(*lines.last().unwrap(), format!("{:0100}", 1999));
    store.retain(BTreeSet::new(), BTreeSet::new());
    assert!(all(&store, LogQuery::default()).await.is_empty());
}

#[tokio::test]
async fn numbered_output_is_stored_once_also_over_a_restart() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
    let boot = Some(model::id::BootId::new(1, 1));
    let append = |store: &LogStore, offset, data: &'static [u8]| {
        let (app, machine, stream) = ("web", "m1", LogStream::Stdout);
        let (acknowledge, acknowledged) = tokio::sync::oneshot::channel();
        let (channel, meta) = (stream.into(), None);
        let log = GuestLog { app, machine, boot, channel, meta, offset, data };
        store.append_guest(&log, |stored| acknowledge.send(stored).unwrap());
        acknowledged
    };
    let first = store(&dir, &clock);
    assert_eq!(append(&first, 0, b"one\ntw").await, Ok(4));
    assert_eq!(append(&first, 4, b"two\n").await, Ok(8));
    // Both lines are written; that the second is was never acknowledged.
    drop(first);
    let second = store(&dir, &clock);
    assert_eq!(append(&second, 4, b"two\nthree\n").await, Ok(14));
    assert_eq!(all(&second, LogQuery::default()).await, ["one", "two", "three"]);
}

#[tokio::test]
async fn an_app_has_a_log_of_its_own() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
    let store = store(&dir, &clock);
    store.append("web", None, ("proxy", "error"), "no machine");
    clock.advance(Duration::from_nanos(1));
    store.line("web", "m1", "runner", "started");
    assert_eq!(all(&store, LogQuery::default()).await, ["no machine", "started"]);
    let only = LogQuery { instance: Some("m1".into()), ..LogQuery::default() };
    assert_eq!(all(&store, only).await, ["started"]);
}

#[tokio::test]
async fn a_torn_line_hides_no_other_and_logs_of_earlier_versions_are_taken_over() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(100));
    let line = |offset: u64, timestamp: i64, message: &str| {
        let (provider, message) = ("app".to_owned(), message.to_owned());
        let instance = "m1".to_owned();
        let entry =
            LogEntry { offset, provider, instance, message, ..LogEntry::position(timestamp) };
        [serde_json::to_vec(&entry).unwrap(), b"\n".to_vec()].concat()
    };
    // A power cut has kept half of the last character.
    let torn = line(4, 30, "\u{e4}");
    let half = torn.iter().position(|&byte| byte == 0xc3).unwrap() + 1;
    let before = [line(2, 10, "two"), line(3, 20, "three")].concat();
    std::fs::write(dir.path().join("m1.log.1"), before).unwrap();
    let current = [&line(4, 30, "four"), &torn[..half], &line(5, 40, "lost"), &torn[..half]];
    std::fs::write(dir.path().join("m1.log"), current.concat()).unwrap();
    std::fs::write(dir.path().join("other.log"), line(1, 50, "x")).unwrap();
    let first = store(&dir, &clock);
    first.line("web", "m1", "runner", "five");
    assert_eq!(all(&first, LogQuery::default()).await, ["two", "three", "four", "five"]);
    let page = LogQuery { after: Some(20), ..LogQuery::default() };
    assert_eq!(all(&first, page).await, ["four", "five"]);
    drop(first);
    let names: Vec<_> = files_of(&dir, "m1");
    let names: Vec<_> = names.iter().map(|path| path.file_name().unwrap()).collect();
    assert_eq!(
        names,
        [
            "m1.00000000000000000002.0000000000000000009.log",
            "m1.00000000000000000004.0000000000000000020.log"
        ]
    );
    let second = store(&dir, &clock);
    second.line("web", "m1", "runner", "six");
    let lines = second.query(vec!["m1".into()], "web", &LogQuery::default()).await.unwrap();
    let lines: Vec<_> = lines.map(|e| (e.offset, e.timestamp, e.message)).collect().await;
    assert_eq!(lines[3..], [(5, 100, "five".into()), (6, 101, "six".into())], "{lines:?}");
}

#[tokio::test]
async fn each_line_is_later_than_the_one_before_it_also_if_the_clock_is_set_back() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1000));
    let first = store(&dir, &clock);
    first.line("web", "m1", "runner", "one");
    first.line("web", "m2", "runner", "two");
    first.append("web", None, ("proxy", "error"), "three");
    drop(first);
    let second = store(&dir, &Clock::manual(10));
    second.line("web", "m1", "runner", "four");
    let query = LogQuery::default();
    let lines = second.query(vec!["m1".into(), "m2".into()], "web", &query).await.unwrap();
    let lines: Vec<_> = lines.map(|e| (e.timestamp, e.message)).collect().await;
    let expected = ["one", "two", "three", "four"].into_iter().zip(1000..);
    assert!(lines.into_iter().eq(expected.map(|(text, time)| (time, text.to_owned()))));
}

#[tokio::test]
async fn lines_are_found_by_text_level_and_region() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1));
    let store = store(&dir, &clock);
    store.line("web", "m1", "runner", "Machine started");
    store.append("web", Some("m1"), ("proxy", "error"), "no machine is HEALTHY");
    store.append("web", None, ("proxy", "warn"), "\u{c4}rger");
    let find = async |q: Option<&str>, levels: &[&str]| {
        let levels = levels.iter().map(|level| (*level).to_owned()).collect();
        all(&store, LogQuery { q: q.map(str::to_owned), levels, ..LogQuery::default() }).await
    };
    assert_eq!(find(Some("MACHINE"), &[]).await, ["Machine started", "no machine is HEALTHY"]);
    assert_eq!(find(Some("machine"), &["error"]).await, ["no machine is HEALTHY"]);
    assert_eq!(find(None, &["warn", "error"]).await.len(), 2);
    assert_eq!(find(Some("\u{e4}rger"), &[]).await, ["\u{c4}rger"]);
    assert!(find(Some("m.chine"), &[]).await.is_empty(), "it is text, no pattern");
    let query = LogQuery { q: Some("b".into()), follow: true, ..LogQuery::default() };
    let mut found = store.query(vec!["m1".to_owned()], "web", &query).await.unwrap();
    store.line("web", "m1", "runner", "a");
    store.line("web", "m1", "runner", "b");
    assert_eq!(found.next().await.unwrap().message, "b");
}

#[tokio::test]
async fn a_search_reads_a_bounded_part_and_continues_where_it_ended() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1));
    let mut store = Arc::into_inner(store(&dir, &clock)).unwrap();
    store.reader.set_scan_bytes(150_000);
    let store = Arc::new(store);
    for n in 0..4000 {
        let (log, text) = (["m1", "m2"][n % 2], if n % 1000 == 7 { "needle" } else { "hay" });
        store.line("web", log, "runner", &format!("{text} {n}"));
        if n % 1000 == 999 {
            flush(&store).await;
        }
    }
    let logs = || vec!["m1".to_owned(), "m2".to_owned()];
    let query = LogQuery {
        q: Some("needle".into()),
        after: Some(0),
        positions: true,
        ..LogQuery::default()
    };
    let found = store.query(logs(), "web", &query).await.unwrap();
    let found: Vec<_> = found.collect().await;
    let (positions, lines): (Vec<_>, Vec<_>) = found.into_iter().partition(|e| e.is_position());
    let lines: Vec<_> = lines.into_iter().map(|entry| entry.message).collect();
    assert_eq!(lines, ["needle 7", "needle 1007", "needle 2007", "needle 3007"]);
    assert!((3..20).contains(&positions.len()), "{} pages", positions.len());
    assert!(positions.is_sorted_by_key(|position| position.timestamp));
    let (last, within) = positions.split_last().unwrap();
    assert_eq!(*last, LogEntry::position(4000));
    assert!(within.iter().all(|position| position.offset == 1), "more follows each of them");
    // A reader that takes no positions gets the first page alone.
    let page = LogQuery { positions: false, ..query.clone() };
    let page: Vec<_> = store.query(logs(), "web", &page).await.unwrap().collect().await;
    assert!((1..=2).contains(&page.len()), "{} lines", page.len());
    // The newest lines are searched backwards, and what was not searched is named.
    let newest = LogQuery { after: None, positions: false, ..query };
    let newest = store.query(logs(), "web", &newest).await.unwrap();
    let newest: Vec<_> = newest.map(|entry| entry.message).collect().await;
    assert!(newest[0].starts_with("Older lines have not been searched"), "{newest:?}");
    assert_eq!(newest[1..], ["needle 3007"]);
}

#[tokio::test]
async fn a_log_is_kept_within_its_size_and_a_reader_learns_of_removed_lines() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1));
    let limits = LogLimits { log_bytes: 1 << 20, ..LogLimits::default() };
    let first = limited(&dir, &clock, limits);
    let text = "x".repeat(1000);
    let write = async |store: &Arc<LogStore>, numbers: std::ops::Range<u64>| {
        for n in numbers {
            store.line("web", "m1", "runner", &format!("{n:05} {text}"));
            if n % 200 == 199 {
                flush(store).await;
            }
        }
    };
    write(&first, 0..600).await;
    let after = LogQuery { after: Some(0), ..LogQuery::default() };
    assert_eq!(all(&first, after.clone()).await.len(), 600);
    let follow = LogQuery { follow: true, positions: true, ..after.clone() };
    let mut behind = first.query(vec!["m1".to_owned()], "web", &follow).await.unwrap();
    assert_eq!(behind.next().await.unwrap().offset, 1);
    write(&first, 600..6000).await;
    let size = |dir| -> u64 {
        files_of(dir, "m1").iter().map(|file| std::fs::metadata(file).unwrap().len()).sum()
    };
    assert!(size(&dir) <= (1 << 20) + (300 << 10), "{}", size(&dir));
    // The follower has a page of 600 lines, then it finds that it has missed some.
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &LogEntry| line.offset < 6000) {
        let line = behind.next().await.unwrap();
        if !line.is_position() {
            lines.push(line);
        }
    }
    let gap = lines.iter().position(|line| line.message.contains("have been removed")).unwrap();
    assert_eq!((gap, lines[gap].level.as_str()), (599, "warn"));
    assert_eq!(lines[gap].offset + 1, lines[gap + 1].offset, "all that are left follow");
    assert!(lines[gap + 1..].windows(2).all(|two| two[0].offset + 1 == two[1].offset));
    // A later start keeps the numbers, and the knowledge of removed lines.
    drop((behind, first));
    let second = limited(&dir, &clock, limits);
    let kept = all(&second, after).await;
    assert!(kept[0].starts_with("Up to "), "{:.60}", kept[0]);
    assert_eq!(kept.len(), 6000 - lines[gap].offset as usize + 1);
    let newest = LogQuery { tail: Some(1), ..LogQuery::default() };
    second.line("web", "m1", "runner", "next");
    let newest = second.query(vec!["m1".into()], "web", &newest).await.unwrap();
    assert_eq!(newest.map(|entry| entry.offset).collect::<Vec<_>>().await, [6001]);
}

#[tokio::test]
async fn old_lines_are_removed_and_a_quiet_log_keeps_its_numbers() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1_000));
    let hour = Duration::from_secs(3600);
    let limits = LogLimits { age: 8 * hour, ..LogLimits::default() };
    let first = limited(&dir, &clock, limits);
    first.line("web", "m1", "runner", "one");
    first.line("web", "m2", "runner", "of a quiet machine");
    for n in 1..20 {
        clock.advance(hour);
        first.line("web", "m1", "runner", &format!("hour {n}"));
        first.sweep();
    }
    let after = LogQuery { after: Some(0), ..LogQuery::default() };
    let lines = all(&first, after.clone()).await;
    assert_eq!(lines.iter().filter(|line| line.starts_with("Up to")).count(), 2, "{lines:?}");
    let hours: Vec<_> = lines.iter().filter(|line| line.starts_with("hour")).collect();
    assert!((8..=11).contains(&hours.len()), "{hours:?}");
    assert_eq!(hours.last().unwrap().as_str(), "hour 19");
    assert_eq!(files_of(&dir, "m2").len(), 1);
    drop(first);
    let second = limited(&dir, &clock, limits);
    second.line("web", "m2", "runner", "again");
    let quiet = LogQuery { instance: Some("m2".into()), ..after };
    let lines = second.query(vec!["m2".to_owned()], "web", &quiet).await.unwrap();
    let lines: Vec<_> = lines.map(|entry| (entry.offset, entry.message)).collect().await;
    assert_eq!(lines[1..], [(2, "again".to_owned())], "{lines:?}");
    // A reader that had read all of them misses nothing, and is not alarmed.
    let resumed = LogQuery { after: Some(1_001), ..quiet };
    assert_eq!(all(&second, resumed).await, ["again"]);
}

#[tokio::test]
async fn a_follower_that_is_too_slow_gets_the_rest_from_the_files() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1));
    let store = store(&dir, &clock);
    let query = LogQuery { follow: true, tail: Some(0), ..LogQuery::default() };
    let lines = store.query(vec!["m1".to_owned()], "web", &query).await.unwrap();
    for n in 0..20_000 {
        store.line("web", "m1", "runner", &n.to_string());
        if n % 2000 == 1999 {
            flush(&store).await;
        }
    }
    let lines: Vec<_> = lines.take(20_000).map(|entry| entry.message).collect().await;
    assert!(lines.into_iter().eq((0..20_000).map(|n| n.to_string())));
}
