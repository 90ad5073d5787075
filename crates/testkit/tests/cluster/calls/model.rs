//! What has to follow from a call to a machine that is at rest.

use super::steps::{Call, Nonce};
use model::life::{Event, State};

/// What is known of a machine that is at rest.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) id: String,
    pub(super) state: State,
    pub(super) version: String,
    /// It was created to be down, and was not started since.
    pub(super) never_started: bool,
    pub(super) leased: bool,
    /// The nonce of the newest lease.
    pub(super) nonce: String,
}

/// What a call has to lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// It is carried out, and the machine comes to rest in this state.
    Done(State),
    /// It is refused with one of these, and nothing changes.
    Refused(&'static [u16]),
}

impl Known {
    /// Whether the call may not be carried out while the lease is held.
    pub(super) fn guarded(&self, call: Call, nonce: Nonce) -> bool {
        self.leased && nonce != Nonce::Newest && call != Call::Label
    }

    /// What the call has to lead to.
    pub(super) fn after(&self, call: Call, nonce: Nonce) -> Expected {
        match call {
            Call::Release if nonce == Nonce::Absent => Expected::Refused(&[400]),
            _ if self.guarded(call, nonce) => Expected::Refused(&[409]),
            Call::Lease | Call::Release => Expected::Done(self.state),
            Call::Cordon | Call::Uncordon | Call::Label if self.state == State::Destroyed => {
                Expected::Refused(&[404, 409])
            }
            Call::Cordon | Call::Uncordon | Call::Label => Expected::Done(self.state),
            Call::Start => self.by(Event::Start, true),
            Call::Stop => self.by(Event::Stop, false),
            Call::Suspend => self.by(Event::Suspend, false),
            Call::Restart => self.by(Event::Restart, true),
            Call::Update { skip_launch } => {
                let launch = !skip_launch && !self.never_started;
                self.by(Event::Update { launch }, launch)
            }
            Call::Destroy { force } => self.by(Event::Destroy { force }, false),
        }
    }

    /// The table's answer to an event after which the machine is to `run` or not.
    fn by(&self, event: Event, run: bool) -> Expected {
        use State::{
            Created, Destroyed, Destroying, Failed, Replacing, Restarting, Started, Starting,
            Stopped, Stopping, Suspended, Suspending,
        };
        let Ok(next) = self.state.after(event) else { return Expected::Refused(&[404, 409]) };
        Expected::Done(match next {
            Starting | Restarting => Started,
            Replacing if run => Started,
            Replacing | Stopping => Stopped,
            Suspending => Suspended,
            Destroying => Destroyed,
            rest @ (Created | Started | Stopped | Suspended | Failed | Destroyed) => rest,
        })
    }
}

/// Whether the life table leads from one state to the other, by one event or by one after a
/// launch, which has no event of its own in a machine's list.
pub(super) fn leads(from: State, to: State) -> bool {
    let by_one = |from: State| EVENTS.iter().any(|event| from.after(*event) == Ok(to));
    from == to || by_one(from) || from.after(Event::Launch).is_ok_and(by_one)
}

const EVENTS: [Event; 17] = [
    Event::Start,
    Event::Stop,
    Event::Suspend,
    Event::Restart,
    Event::Update { launch: true },
    Event::Update { launch: false },
    Event::Destroy { force: true },
    Event::Destroy { force: false },
    Event::Launch,
    Event::Prepared,
    Event::Running,
    Event::Saved,
    Event::SuspendAborted,
    Event::Down { again: true },
    Event::Down { again: false },
    Event::Fail,
    Event::Gone,
];

/// The state of this name.
pub(super) fn state(name: &str) -> State {
    let known = State::ALL.into_iter().find(|state| state.as_str() == name);
    known.unwrap_or_else(|| panic!("{name:?} is a state"))
}

/// A machine in this state does not leave it by itself.
pub(super) fn at_rest(state: State) -> bool {
    use State::{Destroyed, Failed, Started, Stopped, Suspended};
    matches!(state, Started | Stopped | Suspended | Failed | Destroyed)
}
