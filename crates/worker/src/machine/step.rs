//! The next action for a machine: a pure decision from its state, its desired state
//! and what exists of its VM. The machine's task carries it out, again after every
//! change; the normal case, a retry and the recovery after a crash are one path.

use model::life::{State, Want};

/// The state of a machine's VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vm {
    /// Nothing, and nothing is left of an earlier VM.
    Absent,
    /// Nothing yet: the record names a boot that has not begun.
    BootChosen,
    /// There is none; the image and disk of its first boot are being prepared.
    Preparing,
    /// It is being made, restored or taken over.
    Launching,
    /// It runs and there is a session with its guest.
    Up {
        /// Its main process runs.
        running: bool,
        /// The request that it has been sent.
        requested: RequestedAction,
    },
    /// It runs, but there is no session with its guest.
    Unreachable,
    /// Its snapshot is being written.
    Saving {
        /// The suspend has been cancelled.
        cancelled: bool,
    },
    /// It is paused and its snapshot is complete.
    Saved,
    /// It has ended or is not to be used; something of it may be left.
    Leftover,
    /// Its remains are being removed.
    Clearing,
}

/// The request that a VM that is up has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestedAction {
    /// Nothing.
    None,
    /// To stop: it drains, or its main process has got the signal.
    Stop,
    /// To be suspended: it drains.
    Suspend,
}

/// The present state of a machine, for the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) vm: Vm,
    /// A pause before a restart is over.
    pub(crate) due: bool,
    /// The record names a boot whose end has not been recorded.
    pub(crate) booted: bool,
    /// A snapshot that the record does not name may exist.
    pub(crate) orphaned_snapshot: bool,
}

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing until something happens.
    Idle,
    /// Remove a snapshot that will not be restored.
    RemoveSnapshot,
    /// Prepare the image and disk of a machine that is not to run yet.
    Prepare,
    /// Record that a machine that is down is being destroyed.
    RecordDestroying,
    /// Begin a boot, or a restore if there is a snapshot.
    Launch,
    /// Cancel the launch that is under way.
    CancelLaunch,
    /// Ask the main process to end.
    RequestStop,
    /// Drain the VM and write its snapshot.
    Suspend,
    /// Cancel the suspend that is under way.
    CancelSuspend,
    /// Resume a paused VM and remove its snapshot.
    ContinueVm,
    /// It runs and is to run: record that the suspend was aborted.
    RecordSuspendAborted,
    /// Remove what is left of the VM; ends it if it runs.
    Clear,
    /// The VM is gone: record it and decide what follows.
    RecordDown,
    /// Nothing is left: record that the machine is destroyed.
    RecordDestroyed,
}

/// The next action.
pub(crate) fn next(state: State, want: Want, observed: Observed) -> Step {
    use State::*;
    let Observed { vm, due, booted, orphaned_snapshot } = observed;
    match (state, vm) {
        // While the machine is suspending, the snapshot is in use.
        (state, vm) if orphaned_snapshot && state != Suspending && !is_saving(vm) => {
            Step::RemoveSnapshot
        }

        (Created, Vm::Preparing) => Step::Idle,
        (_, Vm::Preparing) => Step::CancelLaunch,
        (_, Vm::Clearing) => Step::Idle,
        (_, Vm::Leftover) => Step::Clear,
        (_, Vm::Saving { cancelled: true }) => Step::Idle,

        (Destroying, Vm::Launching) => Step::CancelLaunch,
        (Destroying, Vm::Saving { .. }) => Step::CancelSuspend,
        (Destroying, Vm::BootChosen | Vm::Up { .. } | Vm::Unreachable | Vm::Saved) => Step::Clear,
        (Destroying, Vm::Absent) => Step::RecordDestroyed,

        (Suspending, Vm::Launching) => Step::Idle,
        (Suspending, Vm::Unreachable) => Step::Idle,
        (Suspending, Vm::Up { .. }) if want == Want::Run => Step::RecordSuspendAborted,
        (
            Suspending,
            Vm::Up { requested: RequestedAction::Suspend, .. } | Vm::Up { running: false, .. },
        ) => Step::Idle,
        (Suspending, Vm::Up { .. }) => Step::Suspend,
        (Suspending, Vm::Saving { .. }) if want != Want::Run => Step::Idle,
        // Also if the daemon was killed before it could record the suspend.
        (Suspending, Vm::Saved) if want != Want::Run => Step::Clear,
        (_, Vm::Saving { .. }) => Step::CancelSuspend,

        // In every state: the boot that the record names is over.
        (Starting | Started | Stopping | Suspending | Restarting | Replacing, Vm::Absent)
            if booted =>
        {
            Step::RecordDown
        }
        (Starting, Vm::Absent | Vm::BootChosen) => Step::Launch,
        (Restarting | Replacing, Vm::Absent) if want != Want::Run => Step::RecordDown,
        (Restarting | Replacing, Vm::Absent) if due => Step::Launch,
        (Restarting | Replacing, Vm::Absent) => Step::Idle,
        (Started | Stopping | Suspending, Vm::Absent) => Step::RecordDown,

        // It is to run, or to get a stop request, for which it has to run.
        (Starting | Started | Stopping | Suspending | Restarting | Replacing, Vm::Saved) => {
            Step::ContinueVm
        }
        (_, Vm::BootChosen) => Step::Clear,

        (Stopping | Restarting | Replacing, Vm::Launching) => Step::CancelLaunch,
        (Stopping | Restarting | Replacing, Vm::Up { running: false, .. }) => Step::Clear,
        (Stopping | Restarting | Replacing, Vm::Up { requested: RequestedAction::Stop, .. }) => {
            Step::Idle
        }
        (Stopping | Restarting | Replacing, Vm::Up { .. }) => Step::RequestStop,
        // No signal reaches its main process.
        (Stopping | Restarting | Replacing, Vm::Unreachable) => Step::Clear,
        (Starting | Started, _) => Step::Idle,

        // A VM that is not wanted.
        (Created | Suspended | Stopped | Failed | Destroyed, Vm::Launching) => Step::CancelLaunch,
        (
            Created | Suspended | Stopped | Failed | Destroyed,
            Vm::Up { .. } | Vm::Unreachable | Vm::Saved,
        ) => Step::Clear,
        (Created | Suspended | Stopped, Vm::Absent) if want == Want::Run => Step::Launch,
        (Created | Suspended | Stopped | Failed, Vm::Absent) if want == Want::Destroy => {
            Step::RecordDestroying
        }
        (Created, Vm::Absent) => Step::Prepare,
        (Suspended | Stopped | Failed | Destroyed, Vm::Absent) => Step::Idle,
    }
}

/// The snapshot is being written or complete, and not yet recorded.
fn is_saving(vm: Vm) -> bool {
    matches!(vm, Vm::Saving { .. } | Vm::Saved)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Vm = Vm::Up { running: true, requested: RequestedAction::None };

    fn have(vm: Vm, booted: bool) -> Observed {
        Observed { vm, due: true, booted, orphaned_snapshot: false }
    }

    #[test]
    fn no_machine_is_stuck() {
        // In a transitional state without a VM there is always something to do,
        // but for the pause before a restart, which a timer ends.
        for state in State::ALL.into_iter().filter(|state| !state.is_settled()) {
            for (want, booted) in [(Want::Run, false), (Want::Stop, false), (Want::Run, true)] {
                assert_ne!(next(state, want, have(Vm::Absent, booted)), Step::Idle, "{state}");
            }
            for vm in [Vm::Leftover, Vm::Saved, Vm::BootChosen] {
                assert_ne!(next(state, Want::Run, have(vm, true)), Step::Idle, "{state} {vm:?}");
            }
        }
    }

    #[test]
    fn a_vm_that_is_not_wanted_is_removed() {
        for state in [State::Created, State::Stopped, State::Failed, State::Destroying] {
            for vm in [UP, Vm::Unreachable, Vm::Saved] {
                assert_eq!(next(state, Want::Stop, have(vm, true)), Step::Clear, "{state}");
            }
        }
    }

    #[test]
    fn steps_of_a_stop() {
        let step = |vm| next(State::Stopping, Want::Stop, have(vm, true));
        assert_eq!(step(Vm::Launching), Step::CancelLaunch);
        assert_eq!(step(Vm::Up { running: false, requested: RequestedAction::None }), Step::Clear);
        assert_eq!(step(UP), Step::RequestStop);
        assert_eq!(
            step(Vm::Up { running: true, requested: RequestedAction::Suspend }),
            Step::RequestStop
        );
        assert_eq!(step(Vm::Up { running: true, requested: RequestedAction::Stop }), Step::Idle);
        assert_eq!(step(Vm::Saving { cancelled: false }), Step::CancelSuspend);
        assert_eq!(step(Vm::Saving { cancelled: true }), Step::Idle);
        assert_eq!(step(Vm::Saved), Step::ContinueVm);
        assert_eq!(step(Vm::Leftover), Step::Clear);
        assert_eq!(step(Vm::Absent), Step::RecordDown);
    }

    #[test]
    fn steps_of_a_suspend_and_of_a_start_during_it() {
        let vms = [
            Vm::Launching,
            UP,
            Vm::Up { running: true, requested: RequestedAction::Suspend },
            Vm::Saving { cancelled: false },
            Vm::Saving { cancelled: true },
            Vm::Saved,
            Vm::Clearing,
            Vm::Absent,
        ];
        let steps = |want| vms.map(|vm| next(State::Suspending, want, have(vm, true)));
        use Step::*;
        assert_eq!(steps(Want::Stop), [Idle, Suspend, Idle, Idle, Idle, Clear, Idle, RecordDown]);
        assert_eq!(
            steps(Want::Run),
            [
                Idle,
                RecordSuspendAborted,
                RecordSuspendAborted,
                CancelSuspend,
                Idle,
                ContinueVm,
                Idle,
                RecordDown
            ]
        );
        // A VM that is already being removed ends suspended; then it is started.
        assert_eq!(next(State::Suspended, Want::Run, have(Vm::Absent, false)), Launch);
        assert_eq!(next(State::Suspended, Want::Stop, have(Vm::Absent, false)), Idle);
    }

    #[test]
    fn an_orphaned_snapshot_is_removed_but_not_while_it_is_written() {
        let orphaned = |vm| Observed { orphaned_snapshot: true, ..have(vm, true) };
        for state in State::ALL.into_iter().filter(|&state| state != State::Suspending) {
            for vm in [UP, Vm::Absent, Vm::Launching, Vm::Leftover, Vm::Clearing] {
                assert_eq!(next(state, Want::Run, orphaned(vm)), Step::RemoveSnapshot, "{state}");
            }
            for vm in [Vm::Saved, Vm::Saving { cancelled: false }] {
                assert_ne!(next(state, Want::Run, orphaned(vm)), Step::RemoveSnapshot, "{state}");
            }
        }
        assert_eq!(next(State::Suspending, Want::Stop, orphaned(Vm::Absent)), Step::RecordDown);
    }

    #[test]
    fn a_machine_that_is_not_to_run_yet_is_prepared_once() {
        let created = |vm| next(State::Created, Want::Stop, have(vm, false));
        assert_eq!(created(Vm::Absent), Step::Prepare);
        assert_eq!(created(Vm::Preparing), Step::Idle);
        assert_eq!(
            next(State::Starting, Want::Run, have(Vm::Preparing, false)),
            Step::CancelLaunch
        );
        assert_eq!(next(State::Stopped, Want::Stop, have(Vm::Absent, false)), Step::Idle);
        for state in [State::Stopped, State::Failed] {
            let step = next(state, Want::Destroy, have(Vm::Absent, false));
            assert_eq!(step, Step::RecordDestroying);
        }
    }

    #[test]
    fn a_boot_that_was_chosen_begins() {
        assert_eq!(next(State::Starting, Want::Run, have(Vm::BootChosen, true)), Step::Launch);
    }

    #[test]
    fn a_restart_waits_for_its_pause_and_yields_to_a_stop() {
        let step =
            |want, due| next(State::Restarting, want, Observed { due, ..have(Vm::Absent, false) });
        assert_eq!(step(Want::Run, false), Step::Idle);
        assert_eq!(step(Want::Run, true), Step::Launch);
        assert_eq!(step(Want::Stop, false), Step::RecordDown);
    }
}
