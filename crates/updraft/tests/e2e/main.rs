//! The whole platform with real VMs, real images and real HTTP clients.
//!
//! The process moves into a network namespace of its own before it does
//! anything, so nothing here meets the host's network, and any port is free.
//! Most tests share one daemon; those that kill or starve one start their own.

mod api;
mod cli;
mod crash;
mod edge;
mod faults;
mod flyctl;
mod guest;
mod hosts;
mod images;
mod network;
mod platform;
mod secrets;
mod sleep;
mod upgrade;
mod volumes;

use libtest_mimic::{Arguments, Trial};
use platform::{Context, Outcome};
use std::process::ExitCode;
use std::sync::Arc;

type Test = fn(&Context) -> Outcome;

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // Two VMs at a time is what two cores can boot without starving each other.
    args.test_threads = args.test_threads.or(Some(2));
    if args.list {
        return libtest_mimic::run(&args, trials(None)).exit_code();
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("the end-to-end tests need root: they make VMs and network devices");
        return ExitCode::FAILURE;
    }
    platform::enter_own_network();
    let context = Arc::new(Context::new());
    let conclusion = libtest_mimic::run(&args, trials(Some(&context)));
    let left = context.finish();
    if !left.is_empty() {
        eprintln!("left behind by the shared daemon:\n{left}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn trials(context: Option<&Arc<Context>>) -> Vec<Trial> {
    let upgrade: &[(&str, Test)] =
        if upgrade::old_program().is_some() { upgrade::TESTS } else { &[] };
    let groups: [(&str, &[(&str, Test)]); 13] = [
        ("api", api::TESTS),
        ("cli", cli::TESTS),
        ("crash", crash::TESTS),
        ("edge", edge::TESTS),
        ("faults", faults::TESTS),
        ("flyctl", flyctl::TESTS),
        ("guest", guest::TESTS),
        ("hosts", hosts::TESTS),
        ("network", network::TESTS),
        ("secrets", secrets::TESTS),
        ("sleep", sleep::TESTS),
        ("upgrade", upgrade),
        ("volumes", volumes::TESTS),
    ];
    let all = groups.into_iter().flat_map(|(group, tests)| tests.iter().map(move |t| (group, t)));
    all.map(|(group, &(name, test))| {
        let context = context.cloned();
        Trial::test(format!("{group}::{name}"), move || {
            let context = context.expect("tests run only with a context");
            test(&context).map_err(|err| format!("{err:#}").into())
        })
    })
    .collect()
}
