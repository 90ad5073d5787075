//! Which idle machine the edge stops.
//!
//! Input is one group: the machines of one app, one set of services and one
//! region that run. Two rules exist side by side and neither ever names a
//! machine that has load, since a stop would cut off a client:
//!
//! - [`pass`]: the rule of fly.io/docs/reference/fly-proxy-autostop-autostart:
//!   every interval at most one machine per group that has been idle for a whole
//!   interval, if the others can carry the load.
//! - [`due`]: seconds per machine, an Updraft addition: a machine that has been
//!   idle for its own `after` is stopped, any number at a time.
//!
//! Both together leave `keep` machines running: [`stops`].

use std::time::Duration;

/// A running machine of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Every service of it allows autostop. Several services on one machine
    /// count as their most cautious.
    pub autostop: bool,
    /// Requests and connections in flight.
    pub load: u32,
    /// Some service of it is at or over its soft limit.
    pub over_soft: bool,
    /// Time since it last had load; zero if it has load.
    pub idle: Duration,
    /// `autostop_after_seconds`, the longest of its services.
    pub after: Option<Duration>,
}

impl Running {
    fn stoppable(&self) -> bool {
        self.autostop && self.load == 0
    }
}

/// How many machines of a group must keep running: `min_machines_running`
/// counts in the primary region only.
pub fn keep(min_machines_running: u32, in_primary_region: bool) -> usize {
    if in_primary_region { min_machines_running as usize } else { 0 }
}

/// The machines to stop now, as indices. The interval rule, if its `interval` is
/// over, judges what remains when those whose seconds are over are gone.
pub fn stops(group: &[Running], keep: usize, interval: Option<Duration>) -> Vec<usize> {
    let mut stops = due(group, keep);
    if let Some(interval) = interval {
        let rest: Vec<usize> = (0..group.len()).filter(|i| !stops.contains(i)).collect();
        let remain: Vec<Running> = rest.iter().map(|&i| group[i]).collect();
        stops.extend(pass(&remain, keep, interval).map(|at| rest[at]));
    }
    stops
}

/// The machine that this pass of the interval rule stops, as an index: the one
/// that has been idle longest, and for at least one whole `interval`. Machines with
/// their own seconds are not named, but they count as running.
pub fn pass(group: &[Running], keep: usize, interval: Duration) -> Option<usize> {
    let over = group.iter().filter(|m| m.over_soft).count();
    // One machine is stopped when it has no load; of several, one must remain
    // beyond those that are over their soft limit, to take the next request.
    let needed = if group.len() == 1 { 0 } else { over + 1 };
    if group.len() <= needed.max(keep) {
        return None;
    }
    let is_idle = |m: &Running| m.stoppable() && m.after.is_none() && m.idle >= interval;
    let idle = group.iter().enumerate().filter(|(_, m)| is_idle(m));
    idle.max_by_key(|(i, m)| (m.idle, std::cmp::Reverse(*i))).map(|(i, _)| i)
}

/// The machines whose own seconds are over, longest idle first.
pub fn due(group: &[Running], keep: usize) -> Vec<usize> {
    let over = |m: &Running| m.stoppable() && m.after.is_some_and(|after| m.idle >= after);
    let mut due: Vec<usize> = (0..group.len()).filter(|&i| over(&group[i])).collect();
    due.sort_by_key(|&i| (std::cmp::Reverse(group[i].idle), i));
    due.truncate(group.len().saturating_sub(keep));
    due
}

/// When [`due`] can next name a machine, if nothing arrives meanwhile. A
/// machine with load may become idle at once, so its whole `after` counts; the end
/// of the load of one without any `after` has to be known.
pub fn next_due(group: &[Running], keep: usize) -> Option<Duration> {
    if group.len() <= keep {
        return None;
    }
    let timed = group.iter().filter(|m| m.autostop);
    let decided = |m: &Running| m.load > 0 && m.after == Some(Duration::ZERO);
    timed.filter(|m| !decided(m)).filter_map(|m| Some(m.after?.saturating_sub(m.idle))).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(9);

    const IDLE: Running = Running {
        autostop: true,
        load: 0,
        over_soft: false,
        idle: Duration::from_secs(9),
        after: None,
    };

    /// `n` machines of which `over` are over their soft limit.
    fn group(n: usize, over: usize) -> Vec<Running> {
        let busy = Running { load: 30, over_soft: true, idle: Duration::ZERO, ..IDLE };
        (0..n).map(|i| if i < over { busy } else { IDLE }).collect()
    }

    #[test]
    fn excess_machines_go_one_a_pass() {
        // (n, over soft, keep) → does this pass stop one?
        for (n, over, keep, stops) in [
            (3, 0, 0, true),
            (2, 0, 0, true),
            (1, 0, 0, true),
            (3, 1, 0, true),
            (3, 2, 0, false),
            (2, 1, 0, false),
            (1, 1, 0, false),
            (1, 0, 1, false),
            (4, 0, 3, true),
            (3, 0, 3, false),
            (0, 0, 0, false),
        ] {
            let stopped = pass(&group(n, over), keep, INTERVAL);
            assert_eq!(stopped.is_some(), stops, "n={n} over={over} keep={keep}");
        }
    }

    #[test]
    fn the_minimum_counts_in_the_primary_region_only() {
        assert_eq!((keep(1, true), keep(1, false)), (1, 0));
    }

    #[test]
    fn a_machine_with_load_or_without_autostop_is_never_named() {
        let loaded = Running { load: 1, idle: Duration::ZERO, ..IDLE };
        let fixed = Running { autostop: false, ..IDLE };
        assert_eq!(pass(&[loaded, loaded], 0, INTERVAL), None);
        assert_eq!(pass(&[loaded, IDLE], 0, INTERVAL), Some(1));
        assert_eq!(pass(&[fixed], 0, INTERVAL), None);
        assert_eq!(pass(&[fixed, IDLE], 0, INTERVAL), Some(1));
        assert_eq!(pass(&[loaded], 0, INTERVAL), None);
    }

    #[test]
    fn both_rules_together_leave_the_minimum() {
        let a = Running { after: Some(Duration::from_secs(5)), ..IDLE };
        let long = Running { idle: Duration::from_secs(99), ..IDLE };
        let none = [] as [usize; 0];
        assert_eq!(stops(&[a, IDLE], 1, Some(INTERVAL)), [0], "each rule alone would stop one");
        assert_eq!(stops(&[a, IDLE], 2, Some(INTERVAL)), none);
        assert_eq!(stops(&[a, IDLE], 0, Some(INTERVAL)), [0, 1]);
        assert_eq!(
            stops(&[a, IDLE, long], 1, Some(INTERVAL)),
            [0, 2],
            "an index of the whole group"
        );
        assert_eq!(stops(&[a, IDLE, long], 1, None), [0]);
        let busy = Running { load: 30, over_soft: true, idle: Duration::ZERO, ..IDLE };
        assert_eq!(
            stops(&[busy, a, IDLE], 0, Some(INTERVAL)),
            [1],
            "one is left beside the busy one"
        );
    }

    #[test]
    fn a_machine_is_stopped_only_after_a_whole_idle_interval() {
        let idle = |ms| Running { idle: Duration::from_millis(ms), ..IDLE };
        assert_eq!(pass(&[idle(1)], 0, INTERVAL), None, "it has answered a moment ago");
        assert_eq!(pass(&[idle(8_999)], 0, INTERVAL), None);
        assert_eq!(pass(&[idle(9_000)], 0, INTERVAL), Some(0));
        assert_eq!(pass(&[idle(1), idle(9_000), idle(2)], 0, INTERVAL), Some(1));
    }

    #[test]
    fn the_longest_idle_goes_first() {
        let long = Running { idle: Duration::from_secs(99), ..IDLE };
        assert_eq!(pass(&[IDLE, long, IDLE], 0, INTERVAL), Some(1));
    }

    #[test]
    fn seconds_of_a_machine_stop_any_number_but_respect_the_minimum() {
        let after = |idle, after| Running {
            idle: Duration::from_secs(idle),
            after: Some(Duration::from_secs(after)),
            ..IDLE
        };
        let group = [after(5, 5), after(9, 5), after(4, 5), after(0, 0)];
        assert_eq!(due(&group, 0), [1, 0, 3]);
        assert_eq!(due(&group, 2), [1, 0]);
        assert_eq!(due(&group, 4), [] as [usize; 0]);
        assert_eq!(pass(&group, 0, INTERVAL), None, "the interval rule leaves them alone");
        let waiting = [after(4, 5), after(1, 5)];
        assert_eq!(stops(&waiting, 0, Some(INTERVAL)), [] as [usize; 0]);
        assert_eq!(next_due(&waiting, 0), Some(Duration::from_secs(1)));
        assert_eq!(next_due(&waiting, 2), None);
    }
}
