//! What to do next for a machine: a pure decision from what is wanted and what
//! is there. Carried out by the machine's task, again after every change; the
//! happy case, a retry and the recovery after a crash are one path.

use model::life::{State, Want};

/// What is there of a machine's VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vm {
    /// Nothing, and nothing is left of an earlier one.
    Absent,
    /// Nothing yet: the record names a boot that has not begun.
    Chosen,
    /// It is being made, or taken over.
    Launching,
    /// It runs and can be spoken to.
    Up {
        /// Its main process runs.
        running: bool,
        /// What has been begun with it.
        asked: Asked,
    },
    /// It is being written down.
    Saving {
        /// That has been given up.
        cancelled: bool,
    },
    /// It has been written down and stands still.
    Saved,
    /// It has ended or is not to be used; something of it may be left.
    Remains,
    /// What is left of it is being removed.
    Clearing,
}

/// What has been begun with a VM that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing.
    Nothing,
    /// Its end: it drains, or its main process has been asked to stop.
    Stop,
    /// Its suspend: it drains.
    Suspend,
}

/// What is there of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Have {
    pub(crate) vm: Vm,
    /// A pause before a restart is over.
    pub(crate) due: bool,
    /// The record names a boot whose end has not been recorded.
    pub(crate) booted: bool,
    /// A snapshot that the record does not name may be there.
    pub(crate) stray: bool,
}

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing until something happens.
    Rest,
    /// Remove a snapshot that nobody will go on with.
    DropSnapshot,
    /// Begin a boot, or a resume if there is something to go on with.
    Launch,
    /// Give up the launch that is under way.
    CancelLaunch,
    /// Ask the main process to end.
    AskToStop,
    /// Drain the VM and write it down.
    Suspend,
    /// Give up the suspend that is under way.
    CancelSuspend,
    /// Let a VM go on that was written down, without what was written.
    GoOn,
    /// It runs and is to run: record that it was not suspended.
    RecordContinued,
    /// Remove what is left of the VM; ends it if it runs.
    Clear,
    /// The VM is gone: record it and decide what follows.
    RecordDown,
    /// Nothing is left: record that the machine is gone.
    RecordGone,
}

/// What to do next.
pub(crate) fn next(state: State, want: Want, have: Have) -> Step {
    use State::*;
    let Have { vm, due, booted, stray } = have;
    match (state, vm) {
        // While it is suspending the snapshot has an owner.
        (state, vm) if stray && state != Suspending && !is_saving(vm) => Step::DropSnapshot,

        (_, Vm::Clearing) => Step::Rest,
        (_, Vm::Remains) => Step::Clear,
        (_, Vm::Saving { cancelled: true }) => Step::Rest,

        (Destroying, Vm::Launching) => Step::CancelLaunch,
        (Destroying, Vm::Saving { .. }) => Step::CancelSuspend,
        (Destroying, Vm::Chosen | Vm::Up { .. } | Vm::Saved) => Step::Clear,
        (Destroying, Vm::Absent) => Step::RecordGone,

        (Suspending, Vm::Launching) => Step::Rest,
        (Suspending, Vm::Up { .. }) if want == Want::Run => Step::RecordContinued,
        (Suspending, Vm::Up { asked: Asked::Suspend, .. } | Vm::Up { running: false, .. }) => {
            Step::Rest
        }
        (Suspending, Vm::Up { .. }) => Step::Suspend,
        (Suspending, Vm::Saving { .. }) if want != Want::Run => Step::Rest,
        // Also what a daemon finds that was killed before it could record it.
        (Suspending, Vm::Saved) if want != Want::Run => Step::Clear,
        (_, Vm::Saving { .. }) => Step::CancelSuspend,

        // Whatever it was before: the boot that the record names is over.
        (Starting | Started | Stopping | Suspending | Restarting | Replacing, Vm::Absent)
            if booted =>
        {
            Step::RecordDown
        }
        (Starting, Vm::Absent | Vm::Chosen) => Step::Launch,
        (Restarting | Replacing, Vm::Absent) if want != Want::Run => Step::RecordDown,
        (Restarting | Replacing, Vm::Absent) if due => Step::Launch,
        (Restarting | Replacing, Vm::Absent) => Step::Rest,
        (Started | Stopping | Suspending, Vm::Absent) => Step::RecordDown,

        // It is to run, or to be asked to end while it does.
        (Starting | Started | Stopping | Suspending | Restarting | Replacing, Vm::Saved) => {
            Step::GoOn
        }
        (_, Vm::Chosen) => Step::Clear,

        (Stopping | Restarting | Replacing, Vm::Launching) => Step::CancelLaunch,
        (Stopping | Restarting | Replacing, Vm::Up { running: false, .. }) => Step::Clear,
        (Stopping | Restarting | Replacing, Vm::Up { asked: Asked::Stop, .. }) => Step::Rest,
        (Stopping | Restarting | Replacing, Vm::Up { .. }) => Step::AskToStop,
        (Starting | Started, _) => Step::Rest,

        // A VM that nobody wants.
        (Created | Suspended | Stopped | Failed | Destroyed, Vm::Launching) => Step::CancelLaunch,
        (Created | Suspended | Stopped | Failed | Destroyed, Vm::Up { .. } | Vm::Saved) => {
            Step::Clear
        }
        (Created | Suspended | Stopped, Vm::Absent) if want == Want::Run => Step::Launch,
        (Created | Suspended | Stopped | Failed | Destroyed, Vm::Absent) => Step::Rest,
    }
}

/// What is being written, or was, is still to be decided about.
fn is_saving(vm: Vm) -> bool {
    matches!(vm, Vm::Saving { .. } | Vm::Saved)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Vm = Vm::Up { running: true, asked: Asked::Nothing };

    fn have(vm: Vm, booted: bool) -> Have {
        Have { vm, due: true, booted, stray: false }
    }

    #[test]
    fn no_machine_is_stuck() {
        // In a transitional state without a VM there is always something to do,
        // but for the pause before a restart, which a timer ends.
        for state in State::ALL.into_iter().filter(|state| !state.is_settled()) {
            for (want, booted) in [(Want::Run, false), (Want::Stop, false), (Want::Run, true)] {
                assert_ne!(next(state, want, have(Vm::Absent, booted)), Step::Rest, "{state}");
            }
            for vm in [Vm::Remains, Vm::Saved, Vm::Chosen] {
                assert_ne!(next(state, Want::Run, have(vm, true)), Step::Rest, "{state} {vm:?}");
            }
        }
    }

    #[test]
    fn a_vm_that_nobody_wants_is_removed() {
        for state in [State::Created, State::Stopped, State::Failed, State::Destroying] {
            for vm in [UP, Vm::Saved] {
                assert_eq!(next(state, Want::Stop, have(vm, true)), Step::Clear, "{state}");
            }
        }
    }

    #[test]
    fn the_way_of_a_stop() {
        let step = |vm| next(State::Stopping, Want::Stop, have(vm, true));
        assert_eq!(step(Vm::Launching), Step::CancelLaunch);
        assert_eq!(step(Vm::Up { running: false, asked: Asked::Nothing }), Step::Clear);
        assert_eq!(step(UP), Step::AskToStop);
        assert_eq!(step(Vm::Up { running: true, asked: Asked::Suspend }), Step::AskToStop);
        assert_eq!(step(Vm::Up { running: true, asked: Asked::Stop }), Step::Rest);
        assert_eq!(step(Vm::Saving { cancelled: false }), Step::CancelSuspend);
        assert_eq!(step(Vm::Saving { cancelled: true }), Step::Rest);
        assert_eq!(step(Vm::Saved), Step::GoOn);
        assert_eq!(step(Vm::Remains), Step::Clear);
        assert_eq!(step(Vm::Absent), Step::RecordDown);
    }

    #[test]
    fn the_way_of_a_suspend_and_of_a_start_in_its_midst() {
        let vms = [
            Vm::Launching,
            UP,
            Vm::Up { running: true, asked: Asked::Suspend },
            Vm::Saving { cancelled: false },
            Vm::Saving { cancelled: true },
            Vm::Saved,
            Vm::Clearing,
            Vm::Absent,
        ];
        let way = |want| vms.map(|vm| next(State::Suspending, want, have(vm, true)));
        use Step::*;
        assert_eq!(way(Want::Stop), [Rest, Suspend, Rest, Rest, Rest, Clear, Rest, RecordDown]);
        assert_eq!(
            way(Want::Run),
            [Rest, RecordContinued, RecordContinued, CancelSuspend, Rest, GoOn, Rest, RecordDown]
        );
        // Being cleared already it ends suspended; then the wish is seen.
        assert_eq!(next(State::Suspended, Want::Run, have(Vm::Absent, false)), Launch);
        assert_eq!(next(State::Suspended, Want::Stop, have(Vm::Absent, false)), Rest);
    }

    #[test]
    fn a_snapshot_without_owner_goes_but_not_while_it_is_written() {
        let stray = |vm| Have { stray: true, ..have(vm, true) };
        for state in State::ALL.into_iter().filter(|&state| state != State::Suspending) {
            for vm in [UP, Vm::Absent, Vm::Launching, Vm::Remains, Vm::Clearing] {
                assert_eq!(next(state, Want::Run, stray(vm)), Step::DropSnapshot, "{state}");
            }
            for vm in [Vm::Saved, Vm::Saving { cancelled: false }] {
                assert_ne!(next(state, Want::Run, stray(vm)), Step::DropSnapshot, "{state}");
            }
        }
        assert_eq!(next(State::Suspending, Want::Stop, stray(Vm::Absent)), Step::RecordDown);
    }

    #[test]
    fn a_boot_that_was_chosen_begins() {
        assert_eq!(next(State::Starting, Want::Run, have(Vm::Chosen, true)), Step::Launch);
    }

    #[test]
    fn a_restart_waits_for_its_pause_and_yields_to_a_stop() {
        let step =
            |want, due| next(State::Restarting, want, Have { due, ..have(Vm::Absent, false) });
        assert_eq!(step(Want::Run, false), Step::Rest);
        assert_eq!(step(Want::Run, true), Step::Launch);
        assert_eq!(step(Want::Stop, false), Step::RecordDown);
    }
}
