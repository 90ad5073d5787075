//! The right to have one request or connection at a machine's service.

use crate::admission::machine::{DRAINING, Machine};
use crate::admission::refusal::Refusal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// The right to have one request or connection at a machine's service. It counts
/// as load of the machine while it exists.
#[derive(Debug)]
pub struct Permit {
    pub(crate) machine: Arc<Machine>,
    load: Arc<AtomicU32>,
    /// Held requests are not notified when it ends.
    silent: bool,
}

impl Permit {
    /// Takes one of `hard` places.
    ///
    /// # Errors
    /// [`Refusal::AtLimit`], or [`Refusal::RecentlyStopped`] while it drains.
    pub(crate) fn take(
        machine: &Arc<Machine>,
        load: &Arc<AtomicU32>,
        hard: u32,
    ) -> Result<Self, Refusal> {
        if load.fetch_add(1, SeqCst) >= hard {
            load.fetch_sub(1, SeqCst);
            return Err(Refusal::AtLimit);
        }
        let before = machine.in_flight_and_draining.fetch_add(1, SeqCst);
        let permit = Self { machine: machine.clone(), load: load.clone(), silent: false };
        // Dropping it gives both places back.
        if before & DRAINING == 0 { Ok(permit) } else { Err(Refusal::RecentlyStopped) }
    }

    /// Gives the place back of a request that could not connect yet, and will take
    /// it again after a pause. Requests that are held would try at once if they
    /// were notified, and wake each other without end.
    pub(crate) fn release_silently(mut self) {
        self.silent = true;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let machine = &self.machine;
        self.load.fetch_sub(1, SeqCst);
        if machine.in_flight_and_draining.fetch_sub(1, SeqCst) & !DRAINING == 1 {
            machine.idle_or_new_epoch.notify_waiters();
            machine.idle_from_now();
            if machine.stop_when_idle.load(SeqCst) {
                machine.app.request_idle_check();
            }
        }
        // A held request counts itself before it looks at the load, so either
        // it sees the free place or is seen here.
        if !self.silent && machine.app.waiting.load(SeqCst) > 0 {
            machine.app.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::machine;

    #[tokio::test]
    async fn an_idle_stop_and_a_request_exclude_each_other() {
        let (m, load) = (machine(), Arc::default());
        let permit = Permit::take(&m, &load, 9).unwrap();
        assert!(!m.try_drain(), "a request is in flight");
        drop(permit);
        assert!(m.try_drain());
        assert_eq!(Permit::take(&m, &load, 9).unwrap_err(), Refusal::RecentlyStopped);
        assert_eq!((m.in_flight(), load.load(SeqCst)), (0, 0));
        m.end_drain();
        assert!(Permit::take(&m, &load, 9).is_ok());
    }

    #[tokio::test]
    async fn a_machine_is_drained_by_its_last_request() {
        let (m, load) = (machine(), Arc::default());
        let permits = [(); 2].map(|()| Permit::take(&m, &load, 9).unwrap());
        let mut drained = std::pin::pin!(m.drained(m.connection_epoch()));
        let [first, last] = permits;
        drop(first);
        tokio::select! {
            biased;
            _ = &mut drained => panic!("one is in flight"),
            () = tokio::task::yield_now() => {}
        }
        drop(last);
        assert!(drained.await);
        assert!(Permit::take(&m, &load, 9).is_err(), "no more come in");
    }

    #[tokio::test]
    async fn a_stop_that_is_over_keeps_no_request_away() {
        let (m, load) = (machine(), Arc::default());
        let permit = Permit::take(&m, &load, 9);
        for over in [Machine::invalidate_connections, Machine::retire_connections] {
            let epoch = m.connection_epoch();
            let both = tokio::join!(m.drained(epoch), async { over(&m) });
            assert!(!both.0, "it boots again, or resumes, with a request in flight");
        }
        let before = m.connection_epoch();
        m.retire_connections();
        drop(permit);
        assert!(!m.drained(before).await);
        assert!(Permit::take(&m, &load, 9).is_ok());
    }

    #[tokio::test]
    async fn the_hard_limit_is_never_passed() {
        let (m, load) = (machine(), Arc::default());
        let taken: Vec<_> = (0..9).filter_map(|_| Permit::take(&m, &load, 3).ok()).collect();
        assert_eq!((taken.len(), m.in_flight()), (3, 3));
    }
}
