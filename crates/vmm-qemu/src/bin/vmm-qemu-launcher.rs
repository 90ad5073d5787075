//! The launcher alone, for the tests of this crate. The `updraft` binary calls
//! the same entry for its hidden subcommand.

fn main() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|arg| arg == vmm_qemu::jail::SUBCOMMAND) {
        vmm_qemu::jail::main(args);
    }
    eprintln!("this is started by the tests of vmm-qemu, not by hand");
    std::process::exit(2);
}
