//! CPU time of shared vCPUs: a baseline, and the unused part of it that is kept for bursts
//! (<https://fly.io/docs/machines/cpu-performance/>).

use std::time::Duration;

/// Period in which a quota of CPU time is granted.
pub const PERIOD: Duration = Duration::from_millis(80);
/// CPU time of a shared vCPU in each period: 1/16 of it.
pub const BASELINE: Duration = Duration::from_millis(5);
/// Balance of a vCPU to begin with.
const INITIAL: Duration = Duration::from_secs(5);
/// Largest balance of a vCPU.
const LARGEST: Duration = Duration::from_secs(500);

/// What a machine with shared vCPUs may use beyond its baseline. All vCPUs share one balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuCredit {
    vcpus: u32,
    balance: Duration,
}

impl CpuCredit {
    /// The credit of a machine that has just been started.
    pub fn new(vcpus: u32) -> Self {
        Self { vcpus, balance: INITIAL * vcpus }
    }

    /// The credit after a time in which so much CPU time was used. The machine owes nothing
    /// for use that was measured late: the balance does not fall below 0.
    pub fn after(self, elapsed: Duration, used: Duration) -> Self {
        let ratio = PERIOD.as_nanos() / BASELINE.as_nanos();
        // A vCPU fills its balance in less than three hours: what comes after is lost anyway.
        let elapsed = elapsed.min(Duration::from_secs(24 * 3600));
        let earned = elapsed * self.vcpus / u32::try_from(ratio).unwrap_or(u32::MAX);
        let balance = (self.balance + earned).saturating_sub(used);
        Self { balance: balance.min(LARGEST * self.vcpus), ..self }
    }

    /// CPU time that may be used beyond the baseline.
    pub fn balance(self) -> Duration {
        self.balance
    }

    /// CPU time in each [`PERIOD`] for the next `interval`, so that no more than the baseline
    /// and the balance are used in it. `None`: its vCPUs may run all the time.
    pub fn quota(self, interval: Duration) -> Option<Duration> {
        let periods = interval.as_nanos().div_ceil(PERIOD.as_nanos()).max(1);
        let extra = self.balance / u32::try_from(periods).unwrap_or(u32::MAX);
        let quota = BASELINE * self.vcpus + extra;
        (quota < PERIOD * self.vcpus).then_some(quota)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_lasts_as_long_as_documented() {
        // 5 s of balance, and 1/16 of each second: 5 / (1 - 1/16) seconds.
        let (mut credit, mut full) = (CpuCredit::new(1), 0);
        while credit.quota(SECOND).is_none() {
            credit = credit.after(SECOND, SECOND);
            full += 1;
        }
        assert_eq!(full, 5);
        // 0.3125 s are left: 24.03 ms in each of the 13 periods that begin in a second.
        assert_eq!(credit.balance(), Duration::from_micros(312_500));
        assert_eq!(credit.quota(SECOND).unwrap().as_micros(), 5000 + 312_500 / 13);
        let empty = credit.after(SECOND, SECOND);
        assert_eq!((empty.balance(), empty.quota(SECOND)), (Duration::ZERO, Some(ms(5))));
    }

    #[test]
    fn an_idle_machine_fills_its_balance_and_no_more() {
        let idle = CpuCredit::new(2).after(Duration::from_secs(160), Duration::ZERO);
        assert_eq!(idle.balance(), Duration::from_secs(30), "2 x (5 s + 160 s / 16)");
        let full = idle.after(Duration::MAX, Duration::ZERO);
        assert_eq!(full.balance(), Duration::from_secs(1000));
        assert_eq!(full.quota(SECOND), None);
    }

    proptest! {
        /// However a machine behaves within its quotas, it never uses more than what it began
        /// with and its baseline, but for one period of a quota that began in time.
        #[test]
        fn no_machine_uses_more_than_its_share(
            vcpus in 1u32..=8,
            steps in proptest::collection::vec((1u64..4000, 0u64..=100), 1..200),
        ) {
            let (mut credit, mut used) = (CpuCredit::new(vcpus), Duration::ZERO);
            let mut elapsed = Duration::ZERO;
            for (length, share) in steps {
                let length = ms(length);
                let quota = credit.quota(length).unwrap_or(PERIOD * vcpus);
                prop_assert!(quota >= BASELINE * vcpus && quota <= PERIOD * vcpus);
                // The kernel grants the quota in each period that begins in the interval.
                let periods = length.as_nanos().div_ceil(PERIOD.as_nanos()) as u32;
                let granted = (quota * periods).min(length * vcpus);
                let now = granted * u32::try_from(share).unwrap() / 100;
                credit = credit.after(length, now);
                used += now;
                elapsed += length;
                prop_assert!(credit.balance() <= LARGEST * vcpus);
            }
            // Each interval may begin one period more than its length holds.
            let earned = elapsed * vcpus / 16 + INITIAL * vcpus;
            prop_assert!(used <= earned + BASELINE * vcpus * 200, "{used:?} of {earned:?}");
        }

        /// A machine that keeps below its baseline is never held back beyond it, and its
        /// balance does not fall.
        #[test]
        fn a_machine_within_its_baseline_loses_nothing(vcpus in 1u32..=8, seconds in 1u64..10_000) {
            let credit = CpuCredit::new(vcpus);
            let time = Duration::from_secs(seconds);
            prop_assert!(credit.after(time, time * vcpus / 16).balance() >= credit.balance());
        }
    }
}
