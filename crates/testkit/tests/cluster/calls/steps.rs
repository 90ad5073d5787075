//! The steps of a sequence, and which of them make sense.

use proptest::collection::vec;
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};
use proptest_state_machine::ReferenceStateMachine;

/// So many machines at most.
const MACHINES: usize = 3;

/// A step of a sequence. Machines are numbered in the order of their creates.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Create {
        skip_launch: bool,
        leased: bool,
    },
    Call {
        machine: usize,
        call: Call,
        nonce: Nonce,
    },
    /// All at once.
    Race {
        machine: usize,
        calls: Vec<(Call, Nonce)>,
    },
    /// Its main process ends by itself.
    Exit {
        machine: usize,
        code: u8,
    },
    /// Longer than any lease.
    PassAnHour,
    /// `kill -9` of every worker, and new ones.
    KillWorkers,
}

/// A call for one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Start,
    Stop,
    Suspend,
    Restart,
    Update { skip_launch: bool },
    Destroy { force: bool },
    Cordon,
    Uncordon,
    Lease,
    Release,
    Label,
}

/// The nonce that is sent with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nonce {
    Absent,
    /// That of the machine's newest lease, which may have ended.
    Newest,
    Wrong,
}

/// The sequences; the state is how many machines there are.
pub(super) struct Calls;

impl ReferenceStateMachine for Calls {
    type State = usize;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<usize> {
        Just(0).boxed()
    }

    fn transitions(machines: &usize) -> BoxedStrategy<Step> {
        let create = (any::<bool>(), any::<bool>())
            .prop_map(|(skip_launch, leased)| Step::Create { skip_launch, leased });
        if *machines == 0 {
            return create.boxed();
        }
        let machine = 0..*machines;
        let one = (machine.clone(), call(), nonce())
            .prop_map(|(machine, call, nonce)| Step::Call { machine, call, nonce });
        let race = (machine.clone(), vec((call(), nonce()), 2..5))
            .prop_map(|(machine, calls)| Step::Race { machine, calls });
        let exit = (machine, 0u8..3).prop_map(|(machine, code)| Step::Exit { machine, code });
        let creates = if *machines < MACHINES { 2 } else { 0 };
        prop_oneof![
            creates => create,
            12 => one,
            4 => race,
            1 => exit,
            1 => Just(Step::PassAnHour),
            1 => Just(Step::KillWorkers),
        ]
        .boxed()
    }

    fn apply(machines: usize, step: &Step) -> usize {
        machines + usize::from(matches!(step, Step::Create { .. }))
    }

    fn preconditions(machines: &usize, step: &Step) -> bool {
        match step {
            Step::Create { .. } => *machines < MACHINES,
            Step::Call { machine, .. }
            | Step::Race { machine, .. }
            | Step::Exit { machine, .. } => machine < machines,
            Step::PassAnHour | Step::KillWorkers => true,
        }
    }
}

fn call() -> impl Strategy<Value = Call> + Clone {
    prop_oneof![
        3 => Just(Call::Start),
        3 => Just(Call::Stop),
        2 => Just(Call::Suspend),
        2 => Just(Call::Restart),
        2 => any::<bool>().prop_map(|skip_launch| Call::Update { skip_launch }),
        1 => any::<bool>().prop_map(|force| Call::Destroy { force }),
        1 => Just(Call::Cordon),
        1 => Just(Call::Uncordon),
        3 => Just(Call::Lease),
        2 => Just(Call::Release),
        1 => Just(Call::Label),
    ]
}

fn nonce() -> impl Strategy<Value = Nonce> + Clone {
    prop_oneof![3 => Just(Nonce::Absent), 4 => Just(Nonce::Newest), 1 => Just(Nonce::Wrong)]
}
