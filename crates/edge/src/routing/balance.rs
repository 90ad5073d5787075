//! Which machine takes a request: pure.
//!
//! Order of preference (fly.io/docs/reference/load-balancing): this region before
//! others, below the soft limit before at or over it, lower load before higher, then
//! chance; and before all of that, machines whose readiness checks pass before those
//! that have no verdict yet. A machine that fails one, or is at its hard limit, is never
//! chosen (fly.io/docs/reference/health-checks). Of those that sleep, one of
//! this region is woken before others, a suspended one before one that must boot.
//! Machines of a host that cannot be reached are only looked at if there is no other
//! machine for the request: what is known of them may still be right.

/// What a machine can do for a request right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    /// Runs and listens.
    Ready,
    /// Runs and listens, and fails a readiness check.
    Unhealthy,
    /// Is on its way up, or runs and does not listen yet.
    Starting,
    /// Would have to be woken.
    Asleep,
    /// Takes nothing and cannot be woken, or has failed this request before.
    Unavailable,
}

/// One machine as a candidate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// What it can do.
    pub availability: Availability,
    /// Its readiness checks have no verdict since it started.
    pub unproven: bool,
    /// Requests or connections in flight on its service.
    pub load: u32,
    /// From here on others are preferred.
    pub soft: u32,
    /// Never more than this.
    pub hard: u32,
    /// It is in another region.
    pub remote: bool,
    /// Its host can be reached.
    pub reachable: bool,
    /// It may be woken for a request.
    pub autostart: bool,
    /// It sleeps with its memory kept, and so wakes faster than others.
    pub suspended: bool,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Send it to machine `to`; also wake another, since all are at their soft
    /// limit. The request itself does not wait for that one.
    Forward {
        /// Index of the machine.
        to: usize,
        /// Index of one to wake besides.
        wake: Option<usize>,
    },
    /// Wake this machine, hold the request.
    Wake(usize),
    /// Hold it: machines are on their way up.
    WaitForStart,
    /// Hold it: all machines are at their hard limit.
    WaitForCapacity,
    /// Hold it: all machines that run fail a readiness check.
    WaitForHealth,
    /// Nothing runs, and what sleeps must not be woken.
    AutostartDisabled,
    /// There is no machine for it.
    NoMachine,
}

/// Decides among `candidates`; `start` is any number and breaks ties, `waiting`
/// is how many requests are held for this app, this one included.
pub(crate) fn decide(
    count: usize,
    candidate: impl Fn(usize) -> Candidate,
    start: usize,
    waiting: usize,
) -> Decision {
    // Each request begins elsewhere, so equals share the load.
    let order = || (0..count).map(|step| (start % count + step) % count);
    let mut reachable = Survey::default();
    let mut is_all = true;
    for index in order() {
        let c = candidate(index);
        match c.reachable {
            true => reachable.add(index, &c),
            false => is_all = false,
        }
    }
    match reachable.decide(waiting) {
        Decision::AutostartDisabled | Decision::NoMachine if !is_all => {
            let mut all = Survey::default();
            order().for_each(|index| all.add(index, &candidate(index)));
            all.decide(waiting)
        }
        decision => decision,
    }
}

/// What a look at the candidates, one by one, has found.
#[derive(Debug, Default)]
struct Survey {
    /// The best that is ready, and its rank: the least is best.
    best: Option<(usize, (bool, bool, bool, u32))>,
    /// The best to wake, and its rank.
    sleeper: Option<(usize, (bool, bool))>,
    coming: bool,
    /// Requests that those on their way up will take.
    coming_room: usize,
    /// One is at its hard limit.
    full: bool,
    /// One fails a readiness check.
    unhealthy: bool,
    /// One sleeps and must not be woken.
    forbidden: bool,
}

impl Survey {
    fn add(&mut self, index: usize, c: &Candidate) {
        match c.availability {
            Availability::Ready if c.load >= c.hard => self.full = true,
            Availability::Ready => {
                let rank = (c.unproven, c.remote, c.load >= c.soft, c.load);
                if self.best.is_none_or(|(_, least)| rank < least) {
                    self.best = Some((index, rank));
                }
            }
            Availability::Unhealthy => self.unhealthy = true,
            Availability::Starting => {
                self.coming = true;
                self.coming_room += c.soft.clamp(1, c.hard.max(1)) as usize;
            }
            Availability::Asleep if c.autostart => {
                let rank = (c.remote, !c.suspended);
                if self.sleeper.is_none_or(|(_, least)| rank < least) {
                    self.sleeper = Some((index, rank));
                }
            }
            Availability::Asleep => self.forbidden = true,
            Availability::Unavailable => {}
        }
    }

    fn decide(&self, waiting: usize) -> Decision {
        match (self.best, self.sleeper) {
            (Some((to, (_, _, over_soft, _))), Some((wake, _))) if over_soft && !self.coming => {
                Decision::Forward { to, wake: Some(wake) }
            }
            (Some((to, _)), _) => Decision::Forward { to, wake: None },
            // More wait than those on their way up will take.
            (None, Some((wake, _))) if !self.coming || waiting > self.coming_room => {
                Decision::Wake(wake)
            }
            (None, _) if self.coming => Decision::WaitForStart,
            (None, _) if self.full => Decision::WaitForCapacity,
            (None, _) if self.unhealthy => Decision::WaitForHealth,
            (None, _) if self.forbidden => Decision::AutostartDisabled,
            (None, _) => Decision::NoMachine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Decision::*;

    /// `up 5/20/25`, `new 5/20/25` (no verdict yet), `sick` (unhealthy), `coming`, `asleep`, `suspended`, `fixed` (asleep without
    /// autostart), `away`; `far` in front means another region, `lost` before that a
    /// host that cannot be reached.
    fn parse(word: &str) -> Candidate {
        let (reachable, word) = word.strip_prefix("lost ").map_or((true, word), |w| (false, w));
        let (remote, word) = word.strip_prefix("far ").map_or((false, word), |w| (true, w));
        let mut c = Candidate {
            availability: Availability::Unavailable,
            unproven: false,
            load: 0,
            soft: 20,
            hard: u32::MAX,
            remote,
            reachable,
            autostart: true,
            suspended: false,
        };
        match word.split_once(' ').unwrap_or((word, "")) {
            ("up" | "new", numbers) => {
                let mut numbers = numbers.split('/').map(|n| n.parse().unwrap());
                c.availability = Availability::Ready;
                c.unproven = word.starts_with("new");
                c.load = numbers.next().unwrap();
                c.soft = numbers.next().unwrap_or(20);
                c.hard = numbers.next().unwrap_or(u32::MAX);
            }
            ("sick", _) => c.availability = Availability::Unhealthy,
            ("coming", _) => c.availability = Availability::Starting,
            ("asleep", _) => c.availability = Availability::Asleep,
            ("suspended", _) => (c.availability, c.suspended) = (Availability::Asleep, true),
            ("fixed", _) => (c.availability, c.autostart) = (Availability::Asleep, false),
            _ => {}
        }
        c
    }

    fn check(machines: &str, waiting: usize, want: Decision) {
        let all: Vec<_> = machines.split(", ").filter(|w| !w.is_empty()).map(parse).collect();
        assert_eq!(decide(all.len(), |i| all[i], 0, waiting), want, "{machines}");
    }

    #[test]
    fn the_least_loaded_below_soft_wins() {
        let to = |to| Forward { to, wake: None };
        check("up 5, up 3", 1, to(1));
        check("up 20/20, up 19/20", 1, to(1));
        check("up 24/20/25, up 22/20/25", 1, to(1));
        check("up 25/20/25, up 24/20/25", 1, to(1));
        check("up 30/20, far up 0", 1, to(0));
        check("up 25/20/25, far up 0", 1, to(1));
        check("away, far up 0", 1, to(1));
        check("up 1, asleep", 1, to(0));
        check("up 20/20, coming, asleep", 1, to(0));
    }

    #[test]
    fn all_at_soft_wakes_one_more_and_does_not_wait() {
        check("up 20/20, up 30/20, asleep", 1, Forward { to: 0, wake: Some(2) });
        check("up 20/20, fixed", 1, Forward { to: 0, wake: None });
    }

    #[test]
    fn nothing_running_wakes_as_many_as_the_waiting_need() {
        check("asleep, asleep", 1, Wake(0));
        check("far asleep, asleep", 1, Wake(1));
        check("asleep, suspended, suspended", 1, Wake(1));
        check("far suspended, asleep", 1, Wake(1));
        check("far asleep, far suspended", 1, Wake(1));
        check("asleep, far suspended, suspended", 1, Wake(2));
        check("up 20/20, asleep, suspended", 1, Forward { to: 0, wake: Some(2) });
        check("coming, asleep", 20, WaitForStart);
        check("coming, asleep", 21, Wake(1));
        check("coming", 100, WaitForStart);
        check("up 25/20/25, asleep", 1, Wake(1));
        check("up 25/20/25, coming", 1, WaitForStart);
    }

    #[test]
    fn hosts_that_cannot_be_reached_are_the_last_choice() {
        let to = |to| Forward { to, wake: None };
        check("lost up 0, up 19/20", 1, to(1));
        check("lost up 0, far up 30/20", 1, to(1));
        check("lost up 0, asleep", 1, Wake(1));
        check("lost asleep, far asleep", 1, Wake(1));
        check("lost coming, asleep", 1, Wake(1));
        check("lost up 0, coming", 1, WaitForStart);
        check("lost up 0, up 25/20/25", 1, WaitForCapacity);
        check("up 20/20, lost asleep", 1, to(0));
        check("lost up 3, lost up 1, away, fixed", 1, to(1));
        check("lost up 20/20, lost asleep", 1, Forward { to: 0, wake: Some(1) });
        check("lost asleep, away", 1, Wake(0));
        check("lost coming, fixed", 1, WaitForStart);
        check("lost fixed, away", 1, AutostartDisabled);
        check("lost away", 1, NoMachine);
    }

    #[test]
    fn a_machine_that_fails_a_check_gets_nothing() {
        let to = |to| Forward { to, wake: None };
        check("sick, up 19/20", 1, to(1));
        check("sick, far up 30/20", 1, to(1));
        check("sick, new 3", 1, to(1));
        check("new 0, up 19/20", 1, to(1));
        check("new 0, far up 30/20", 1, to(1));
        check("new 0, up 25/20/25", 1, to(0));
        check("new 0, far new 0", 1, to(0));
        check("new 0, lost up 0", 1, to(0));
        check("sick, lost up 0", 1, WaitForHealth);
        check("sick, sick", 1, WaitForHealth);
        check("sick, fixed, away", 1, WaitForHealth);
        check("sick, up 25/20/25", 1, WaitForCapacity);
        check("sick, coming", 1, WaitForStart);
        check("sick, asleep", 1, Wake(1));
    }

    #[test]
    fn there_may_be_no_machine() {
        check("up 25/20/25", 1, WaitForCapacity);
        check("up 25/20/25, fixed", 1, WaitForCapacity);
        check("fixed, away", 1, AutostartDisabled);
        check("away", 1, NoMachine);
        check("", 1, NoMachine);
    }

    #[test]
    fn equals_share() {
        let up = parse("up 1");
        let mut hits = [0; 3];
        for start in 0..30 {
            if let Forward { to, .. } = decide(3, |_| up, start, 0) {
                hits[to] += 1;
            }
        }
        assert_eq!(hits, [10, 10, 10]);
    }
}
