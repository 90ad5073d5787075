//! The life of a machine as one table.
//!
//! A state is what the machine does now; [`Want`] is the desired state that its owner
//! last asked for. Both are durable. The table is total: every pair of state and event
//! either leads to a state or is refused, and a test prints it whole.

use std::fmt;

/// The state of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Made, never started.
    Created,
    /// On its way up: image, disks, network, VM, main process.
    Starting,
    /// Its main process runs.
    Started,
    /// On its way down by a request.
    Stopping,
    /// A snapshot is being taken; the VM is paused or about to be.
    Suspending,
    /// Down, with a snapshot of its memory on disk: a start resumes it.
    Suspended,
    /// Down; holds neither CPU nor memory.
    Stopped,
    /// Will be started again without being asked: by policy or by a restart.
    Restarting,
    /// Its VM goes down so that a new instance can take its place.
    Replacing,
    /// It could not be started; its owner has to act.
    Failed,
    /// Its VM, disk and network are being removed.
    Destroying,
    /// Destroyed. Its record is kept for a while so that clients can still query it.
    Destroyed,
}

/// The desired state: what the owner last asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Run, and be started again by policy.
    Run,
    /// Be down until asked otherwise: it overrides any restart policy.
    Stop,
    /// Be destroyed.
    Destroy,
}

/// Something that happens to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request to run.
    Start,
    /// A request to be down.
    Stop,
    /// A request to be down with its memory kept.
    Suspend,
    /// A request to go down and up.
    Restart,
    /// A new instance takes over; `launch`: whether it is to run.
    Update {
        /// Run it, also if it was down.
        launch: bool,
    },
    /// A request to be destroyed; `force`: even if it runs.
    Destroy {
        /// Even if it runs.
        force: bool,
    },
    /// The host begins a boot.
    Launch,
    /// The image and disk of a machine that is not to run yet are prepared.
    Prepared,
    /// The main process runs.
    Running,
    /// Its snapshot is complete and its VM is gone.
    Saved,
    /// The suspend was aborted: its VM keeps running.
    SuspendAborted,
    /// The VM is gone; `again`: it is to be started again.
    Down {
        /// By policy or request.
        again: bool,
    },
    /// The start cannot succeed; the VM is gone.
    Fail,
    /// Nothing of it is left on the host.
    Gone,
}

/// An event that the state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a machine that is {from} cannot {event}")]
pub struct Refused {
    /// Its state.
    pub from: State,
    /// The event that is refused.
    pub event: Event,
}

impl State {
    /// All states, in the order of a life.
    pub const ALL: [Self; 12] = [
        Self::Created,
        Self::Starting,
        Self::Started,
        Self::Stopping,
        Self::Suspending,
        Self::Suspended,
        Self::Stopped,
        Self::Restarting,
        Self::Replacing,
        Self::Failed,
        Self::Destroying,
        Self::Destroyed,
    ];

    /// The state that `event` leads to.
    ///
    /// # Errors
    /// The event is not allowed in this state.
    pub fn after(self, event: Event) -> Result<Self, Refused> {
        use Event as E;
        use State::*;
        Ok(match (self, event) {
            // Destroying and destroyed machines accept no event but their own progress.
            (Destroyed, E::Down { .. } | E::Gone) => Destroyed,
            (Destroying, E::Gone) => Destroyed,
            (
                Destroying,
                E::Down { .. } | E::Destroy { .. } | E::Fail | E::Prepared | E::Running,
            ) => Destroying,
            (Destroyed | Destroying, _) => return Err(Refused { from: self, event }),

            (Created | Suspended | Stopped | Failed, E::Start | E::Restart) => Starting,
            // It is resumed as soon as its task sees the request.
            (Suspending, E::Start) => Suspending,
            (Suspending, E::Restart) => Restarting,
            (Starting | Started | Restarting | Replacing, E::Start) => self,
            // It is started again once it is down: the desired state is recorded.
            (Stopping, E::Start | E::Restart) => Stopping,

            (Starting | Started | Replacing, E::Stop) => Stopping,
            (Restarting | Suspending, E::Stop) => Stopping,
            (Stopping, E::Stop) => Stopping,
            // Its snapshot is dropped.
            (Failed | Suspended, E::Stop) => Stopped,
            (Created | Stopped, E::Stop) => self,

            (Started | Suspending, E::Suspend) => Suspending,
            (Suspended, E::Suspend) => Suspended,
            (_, E::Suspend) => return Err(Refused { from: self, event }),

            (Starting | Started | Restarting, E::Restart) => Restarting,
            (Replacing, E::Restart) => Replacing,

            (Created | Suspended | Stopped | Failed, E::Update { launch: true }) => Starting,
            (Created | Stopped, E::Update { launch: false }) => self,
            (Failed | Suspended, E::Update { launch: false }) => Stopped,
            (Starting | Started | Suspending | Restarting | Replacing, E::Update { .. }) => {
                Replacing
            }
            // The desired state stays `stopped`; a launch changes it to `started`.
            (Stopping, E::Update { launch: true }) => Replacing,
            (Stopping, E::Update { launch: false }) => Stopping,

            (Created | Suspended | Stopped | Failed, E::Destroy { .. }) => Destroying,
            (_, E::Destroy { force: true }) => Destroying,
            (_, E::Destroy { force: false }) => return Err(Refused { from: self, event }),

            // A machine that is down and is to run: newly created, or started again
            // while it went down.
            (Created | Suspended | Stopped | Restarting | Replacing | Starting, E::Launch) => {
                Starting
            }
            (_, E::Launch) => return Err(Refused { from: self, event }),

            (Created, E::Prepared) => Stopped,
            (_, E::Prepared) => self,

            (Starting, E::Running) => Started,
            (_, E::Running) => self,

            (Suspending, E::Saved) => Suspended,
            (_, E::Saved) => return Err(Refused { from: self, event }),
            (Suspending, E::SuspendAborted) => Started,
            (_, E::SuspendAborted) => self,

            (Starting | Started | Suspending, E::Down { again: true }) => Restarting,
            (Starting | Started | Suspending, E::Down { again: false }) => Stopped,
            // Also if it is to run again: a wait for the stop sees it.
            (Stopping, E::Down { .. }) => Stopped,
            (Restarting | Replacing, E::Down { again: true }) => self,
            (Restarting | Replacing, E::Down { again: false }) => Stopped,
            (Created | Suspended | Stopped | Failed, E::Down { .. }) => self,

            (Starting | Restarting | Replacing, E::Fail) => Failed,
            (_, E::Fail) => self,

            (_, E::Gone) => return Err(Refused { from: self, event }),
        })
    }

    /// It stays so until something happens to it (the wait state `settled`).
    pub fn is_settled(self) -> bool {
        use State::*;
        matches!(self, Created | Started | Suspended | Stopped | Failed | Destroyed)
    }

    /// It may have a VM, and memory is reserved for it.
    pub fn holds_memory(self) -> bool {
        use State::*;
        matches!(self, Starting | Started | Stopping | Suspending | Restarting | Replacing)
    }

    /// The API's name of the state.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Suspending => "suspending",
            Self::Suspended => "suspended",
            Self::Stopped => "stopped",
            Self::Restarting => "restarting",
            Self::Replacing => "replacing",
            Self::Failed => "failed",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
        }
    }

    /// The state with that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "be started",
            Self::Stop => "be stopped",
            Self::Suspend => "be suspended",
            Self::Restart => "be restarted",
            Self::Update { .. } => "be updated",
            Self::Destroy { .. } => "be destroyed without force",
            Self::Launch => "be launched",
            Self::Prepared => "be prepared",
            Self::Running => "report that it runs",
            Self::Saved => "be suspended",
            Self::SuspendAborted => "abort a suspend",
            Self::Down { .. } => "go down",
            Self::Fail => "fail to start",
            Self::Gone => "be gone",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect_file;
    use std::fmt::Write;

    const EVENTS: [(&str, Event); 17] = [
        ("start", Event::Start),
        ("stop", Event::Stop),
        ("suspend", Event::Suspend),
        ("restart", Event::Restart),
        ("update", Event::Update { launch: true }),
        ("update -l", Event::Update { launch: false }),
        ("destroy", Event::Destroy { force: false }),
        ("destroy -f", Event::Destroy { force: true }),
        ("launch", Event::Launch),
        ("prepared", Event::Prepared),
        ("running", Event::Running),
        ("saved", Event::Saved),
        ("aborted", Event::SuspendAborted),
        ("down", Event::Down { again: false }),
        ("down again", Event::Down { again: true }),
        ("fail", Event::Fail),
        ("gone", Event::Gone),
    ];

    #[test]
    fn the_whole_table() {
        let mut table = String::new();
        for (name, event) in EVENTS {
            for from in State::ALL {
                let to = from.after(event).map_or("-", State::as_str);
                writeln!(table, "{name:<10} {from:<10} -> {to}").unwrap();
            }
            table.push('\n');
        }
        expect_file!["life.table.txt"].assert_eq(&table);
    }

    #[test]
    fn every_transitional_state_can_be_left_by_what_the_host_sees() {
        for state in State::ALL.into_iter().filter(|s| !s.is_settled()) {
            let down = [true, false].map(|again| state.after(Event::Down { again }));
            let leaves = |to: &Result<State, Refused>| to.is_ok_and(|to| to != state);
            let gone = state.after(Event::Gone);
            assert!(down.iter().any(leaves) || leaves(&gone), "{state} is a trap");
        }
    }

    #[test]
    fn nothing_but_force_destroys_what_runs() {
        for state in State::ALL.into_iter().filter(|s| s.holds_memory()) {
            assert!(state.after(Event::Destroy { force: false }).is_err());
            assert_eq!(state.after(Event::Destroy { force: true }), Ok(State::Destroying));
        }
    }
}
