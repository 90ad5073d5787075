//! Bounds the entries that one caller can cause, so that a token which permits little cannot push
//! the entries of others out of the log: of its refused calls in one minute the first ones are
//! recorded each, and the rest as one entry with their number.

use std::collections::HashMap;
use wire::audit::{AuditCaller, AuditEntry};

/// Entries of one caller and minute that are recorded each.
const EACH: u32 = 20;
const MINUTE_MS: u64 = 60_000;
/// Callers that are counted by themselves; more are counted together.
const CALLERS: usize = 4096;

/// The bounded entries of the current minute, by caller.
#[derive(Debug, Default)]
pub(super) struct Throttle(HashMap<String, Window>);

#[derive(Debug)]
struct Window {
    begun_ms: u64,
    recorded: u32,
    /// The last entry that was not recorded, with the number of all.
    held: Option<AuditEntry>,
}

impl Window {
    fn new(begun_ms: u64) -> Self {
        Self { begun_ms, recorded: 0, held: None }
    }

    fn has_ended(&self, now_ms: u64) -> bool {
        now_ms.abs_diff(self.begun_ms) >= MINUTE_MS
    }

    fn hold(&mut self, entry: AuditEntry) {
        let former = self.held.take();
        let count = former.as_ref().and_then(|entry| entry.count).unwrap_or(0) + 1;
        let same_org = former.is_none_or(|former| former.org_id == entry.org_id);
        let (org, org_id) = if same_org { (entry.org, entry.org_id) } else { (None, None) };
        self.held = Some(AuditEntry { org, org_id, count: Some(count), ..entry });
    }
}

impl Throttle {
    /// Whether an entry is bounded: that of a refused call, and every one of a machine without a
    /// token.
    pub(super) fn is_bounded(entry: &AuditEntry) -> bool {
        entry.status >= 400 || entry.caller.token_id.is_none()
    }

    /// The entries that are to be recorded now, after this one.
    pub(super) fn admit(&mut self, entry: AuditEntry, now_ms: u64) -> Vec<AuditEntry> {
        let mut due = self.ended(now_ms);
        let mut key = key(&entry.caller);
        if self.0.len() >= CALLERS && !self.0.contains_key(&key) {
            key = String::new();
        }
        let window = self.0.entry(key).or_insert_with(|| Window::new(now_ms));
        if window.recorded < EACH {
            window.recorded += 1;
            due.push(entry);
        } else {
            window.hold(entry);
        }
        due
    }

    /// The entries of the minutes that have ended.
    pub(super) fn ended(&mut self, now_ms: u64) -> Vec<AuditEntry> {
        let ended = self.0.extract_if(|_, window| window.has_ended(now_ms));
        ended.filter_map(|(_, window)| window.held).collect()
    }

    /// All that is left, at the end of the process.
    pub(super) fn rest(&mut self) -> Vec<AuditEntry> {
        self.0.drain().filter_map(|(_, window)| window.held).collect()
    }
}

fn key(caller: &AuditCaller) -> String {
    match (&caller.token_id, &caller.machine) {
        (Some(token), _) => format!("token {token}"),
        (None, machine) => format!("machine {}", machine.as_deref().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(token: &str, org_id: u32) -> AuditEntry {
        let caller = AuditCaller { token_id: Some(token.into()), ..AuditCaller::default() };
        AuditEntry { caller, org_id: Some(org_id), status: 403, ..AuditEntry::default() }
    }

    #[test]
    fn the_refused_calls_of_a_minute_are_bounded() {
        let mut throttle = Throttle::default();
        let recorded: usize =
            (0..1000).map(|n| throttle.admit(refused("a", 1), 50_000 + n).len()).sum();
        assert_eq!(recorded, EACH as usize);
        assert_eq!(throttle.admit(refused("b", 1), 51_000).len(), 1, "others have their own");
        assert_eq!(throttle.ended(50_000 + MINUTE_MS - 1), []);
        let ended = throttle.ended(50_000 + MINUTE_MS);
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].count, ended[0].org_id), (Some(1000 - u64::from(EACH)), Some(1)));
        assert_eq!(throttle.admit(refused("a", 1), 200_000).len(), 1, "a new minute");
        // Entries of several organizations are of none.
        for n in 0..100 {
            throttle.admit(refused("a", n), 200_000);
        }
        let rest = throttle.rest();
        assert_eq!((rest.len(), rest[0].org_id, rest[0].count), (1, None, Some(81)));
    }

    #[test]
    fn the_callers_are_bounded() {
        let mut throttle = Throttle::default();
        for n in 0..10_000 {
            throttle.admit(refused(&n.to_string(), 1), 1000);
        }
        assert!(throttle.0.len() <= CALLERS + 1, "{}", throttle.0.len());
    }

    #[test]
    fn only_refused_calls_and_those_of_machines_are_bounded() {
        let change = AuditEntry { status: 200, ..refused("a", 1) };
        assert!(!Throttle::is_bounded(&change) && Throttle::is_bounded(&refused("a", 1)));
        let of_machine = AuditEntry { status: 200, ..AuditEntry::default() };
        assert!(Throttle::is_bounded(&of_machine));
    }
}
