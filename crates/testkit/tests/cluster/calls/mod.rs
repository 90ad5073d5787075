//! Random sequences of calls to the API, with real workers on fake hypervisors.
//!
//! The sequences are made and shrunk by `proptest-state-machine`. After each step the platform is
//! compared with the life table, with the leases that were granted, and with itself: list, get,
//! events, watch and wait have to agree. [`steps`] are the calls, [`model`] holds what has to follow
//! from one, [`run`] carries them out, [`agree`] compares.

mod agree;
mod model;
mod run;
mod steps;

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use proptest_state_machine::ReferenceStateMachine;
use std::sync::atomic::{AtomicUsize, Ordering};
use testkit::cluster::{Cluster, ClusterOptions};

const CASES: u32 = 16;
const MOST_STEPS: usize = 14;

#[test]
fn random_calls_follow_the_life_table_and_all_reads_agree() {
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        // A failed sequence is shrunk for two minutes at most.
        max_shrink_time: 120_000,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let seed = AtomicUsize::new(0);
    let sequences = steps::Calls::sequential_strategy(1..MOST_STEPS);
    let result = runner.run(&sequences, |(_, steps, seen)| {
        let seed = seed.fetch_add(1, Ordering::Relaxed) as u64;
        let options = ClusterOptions { hosts: 2, seed, same_addresses: false };
        Cluster::run(options, async |cluster| run::all(cluster, steps, seen).await);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
