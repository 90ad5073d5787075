//! What to do next for a machine: a pure decision from what is wanted and what
//! is there. Carried out by the machine's task, again after every change; the
//! happy case, a retry and the recovery after a crash are one path.

use model::life::{State, Want};

/// What is there of a machine's VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vm {
    /// Nothing, and nothing is left of an earlier one.
    Absent,
    /// It is being made.
    Launching,
    /// It runs and can be spoken to; `asked` says that it has been asked to stop.
    Up {
        /// Its main process runs.
        running: bool,
        /// It has been asked to stop.
        asked: bool,
    },
    /// It has ended or is not to be used; something of it may be left.
    Remains,
    /// What is left of it is being removed.
    Clearing,
}

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing until something happens.
    Rest,
    /// Begin a boot.
    Launch,
    /// Give up the launch that is under way.
    CancelLaunch,
    /// Ask the main process to end.
    AskToStop,
    /// Remove what is left of the VM; ends it if it runs.
    Clear,
    /// The VM is gone: record it and decide what follows.
    RecordDown,
    /// Nothing is left: record that the machine is gone.
    RecordGone,
}

/// What to do next. `due` says that a pause before a restart is over; `booted`
/// that the record names a boot whose end has not been recorded.
pub(crate) fn next(state: State, want: Want, vm: Vm, due: bool, booted: bool) -> Step {
    use State::*;
    match (state, vm) {
        (_, Vm::Clearing) => Step::Rest,
        (_, Vm::Remains) => Step::Clear,

        (Destroying, Vm::Launching) => Step::CancelLaunch,
        (Destroying, Vm::Up { .. }) => Step::Clear,
        (Destroying, Vm::Absent) => Step::RecordGone,

        // Whatever it was before: the boot that the record names is over.
        (Starting | Started | Stopping | Suspending | Restarting | Replacing, Vm::Absent)
            if booted =>
        {
            Step::RecordDown
        }
        (Starting, Vm::Absent) => Step::Launch,
        (Restarting | Replacing, Vm::Absent) if want != Want::Run => Step::RecordDown,
        (Restarting | Replacing, Vm::Absent) if due => Step::Launch,
        (Restarting | Replacing, Vm::Absent) => Step::Rest,
        (Started | Stopping | Suspending, Vm::Absent) => Step::RecordDown,

        (Stopping | Restarting | Replacing, Vm::Launching) => Step::CancelLaunch,
        (Stopping | Restarting | Replacing, Vm::Up { running: false, .. }) => Step::Clear,
        (Stopping | Restarting | Replacing, Vm::Up { asked: false, .. }) => Step::AskToStop,
        (Starting | Started | Stopping | Suspending | Restarting | Replacing, _) => Step::Rest,

        // A VM that nobody wants.
        (Created | Suspended | Stopped | Failed | Destroyed, Vm::Launching) => Step::CancelLaunch,
        (Created | Suspended | Stopped | Failed | Destroyed, Vm::Up { .. }) => Step::Clear,
        (Created | Suspended | Stopped, Vm::Absent) if want == Want::Run => Step::Launch,
        (Created | Suspended | Stopped | Failed | Destroyed, Vm::Absent) => Step::Rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Vm = Vm::Up { running: true, asked: false };

    #[test]
    fn no_machine_is_stuck() {
        // In a transitional state without a VM there is always something to do,
        // but for the pause before a restart, which a timer ends.
        for state in State::ALL.into_iter().filter(|state| !state.is_settled()) {
            for (want, booted) in [(Want::Run, false), (Want::Stop, false), (Want::Run, true)] {
                assert_ne!(next(state, want, Vm::Absent, true, booted), Step::Rest, "{state}");
            }
            assert_ne!(next(state, Want::Run, Vm::Remains, false, true), Step::Rest);
        }
    }

    #[test]
    fn a_vm_that_nobody_wants_is_removed() {
        for state in [State::Created, State::Stopped, State::Failed, State::Destroying] {
            assert_eq!(next(state, Want::Stop, UP, false, true), Step::Clear, "{state}");
        }
    }

    #[test]
    fn the_way_of_a_stop() {
        use State::Stopping;
        let step = |vm| next(Stopping, Want::Stop, vm, false, true);
        assert_eq!(step(Vm::Launching), Step::CancelLaunch);
        assert_eq!(step(Vm::Up { running: false, asked: false }), Step::Clear);
        assert_eq!(step(UP), Step::AskToStop);
        assert_eq!(step(Vm::Up { running: true, asked: true }), Step::Rest);
        assert_eq!(step(Vm::Remains), Step::Clear);
        assert_eq!(step(Vm::Absent), Step::RecordDown);
    }

    #[test]
    fn a_restart_waits_for_its_pause_and_yields_to_a_stop() {
        let step = |want, due| next(State::Restarting, want, Vm::Absent, due, false);
        assert_eq!(step(Want::Run, false), Step::Rest);
        assert_eq!(step(Want::Run, true), Step::Launch);
        assert_eq!(step(Want::Stop, false), Step::RecordDown);
    }
}
