//! A system call filter around QEMU's own.
//!
//! QEMU's `-sandbox` is a deny list for what QEMU must not do; it leaves open much
//! that QEMU never does. This filter denies that: interfaces of the kernel with a
//! history of faults, other processes, namespaces, and every socket that is not a
//! Unix socket (the tap, the monitor and the agent port are open already). It is a
//! deny list as well, because what QEMU and its libraries call differs between
//! their versions. Filters add up; see seccomp(2).

use crate::jail::spec::{Attempt, Problem};
use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, sock_filter,
};
use std::collections::BTreeMap;
use std::io;

/// Denied with `EPERM`, regardless of the arguments.
const DENIED: [libc::c_long; 61] = [
    // Kernel interfaces that QEMU does not use in the jail.
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_vmsplice,
    libc::SYS_remap_file_pages,
    libc::SYS_modify_ldt,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_syslog,
    libc::SYS_quotactl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mq_open,
    libc::SYS_msgget,
    libc::SYS_semget,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Namespaces, mounts, and ways around the file tree.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // The host itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Flags of clone(2) that make a namespace.
const NEW_NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Restricts the calling process, and what it becomes by `exec`. Takes
/// no-new-privileges, or the privilege to administer the system.
pub(super) fn restrict() -> Result<(), Problem> {
    for program in programs().attempt("make the system call filter")? {
        seccompiler::apply_filter(&program)
            .map_err(io::Error::other)
            .attempt("apply the system call filter")?;
    }
    Ok(())
}

fn programs() -> io::Result<[BpfProgram; 3]> {
    Ok([deny_x32(), without_clone3()?, denied()?])
}

/// The calls of the x32 ABI share the architecture with those of x86-64 and have
/// other numbers, by which they would pass the filters below; see seccomp(2).
fn deny_x32() -> BpfProgram {
    const X32_SYSCALL_BIT: u32 = 0x4000_0000;
    let statement = |code: u32, k: u32, jt: u8, jf: u8| {
        // All codes of classic BPF have 16 bits.
        sock_filter { code: code as u16, jt, jf, k }
    };
    vec![
        // The number of the call is the first word of `struct seccomp_data`.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, X32_SYSCALL_BIT, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ]
}

/// The flags of clone3(2) are in memory, where no filter can see them. Without it
/// the C library falls back to clone(2).
fn without_clone3() -> io::Result<BpfProgram> {
    filter(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), Errno::NOSYS)
}

fn denied() -> io::Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        DENIED.iter().map(|number| (*number, Vec::new())).collect();
    let mut clone = Vec::new();
    for flag in NEW_NAMESPACES {
        let flag = u64::from(flag.unsigned_abs());
        clone.push(rule(0, Len::Qword, Op::MaskedEq(flag), flag)?);
    }
    rules.insert(libc::SYS_clone, clone);
    let unix = u64::from(libc::AF_UNIX.unsigned_abs());
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        rules.insert(call, vec![rule(0, Len::Dword, Op::Ne, unix)?]);
    }
    filter(rules, Errno::PERM)
}

fn rule(argument: u8, len: Len, op: Op, value: u64) -> io::Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, len, op, value);
    let rule = condition.and_then(|condition| SeccompRule::new(vec![condition]));
    rule.map_err(io::Error::other)
}

fn filter(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: Errno) -> io::Result<BpfProgram> {
    let errno = SeccompAction::Errno(errno.raw_os_error().unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, TargetArch::x86_64);
    filter.and_then(TryInto::try_into).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `attempt` in a child under the filter; returns its exit status.
    fn under_filter(attempt: fn() -> i32) -> i32 {
        let programs = programs().unwrap();
        // SAFETY: the child only makes system calls and leaves by `_exit`.
        match unsafe { libc::fork() } {
            0 => {
                let mut status = 99;
                // SAFETY: plain system call without pointers.
                let limited = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0;
                if limited && programs.iter().all(|p| seccompiler::apply_filter(p).is_ok()) {
                    status = attempt();
                }
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(status) }
            }
            child => {
                assert!(child > 0);
                let mut status = 0;
                // SAFETY: waits for the child that was made above.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                if libc::WIFSIGNALED(status) {
                    return 128 + libc::WTERMSIG(status);
                }
                libc::WEXITSTATUS(status)
            }
        }
    }

    fn errno_of(result: libc::c_long) -> i32 {
        if result >= 0 { 0 } else { io::Error::last_os_error().raw_os_error().unwrap_or(98) }
    }

    #[test]
    fn calls_that_qemu_never_makes_are_denied() {
        assert_eq!(under_filter(|| syscall(libc::SYS_userfaultfd, 0)), libc::EPERM);
        assert_eq!(under_filter(|| syscall(libc::SYS_io_uring_setup, 1)), libc::EPERM);
        assert_eq!(under_filter(|| syscall(libc::SYS_keyctl, 0)), libc::EPERM);
        assert_eq!(
            under_filter(|| syscall(libc::SYS_ptrace, libc::PTRACE_TRACEME as i32)),
            libc::EPERM
        );
        assert_eq!(under_filter(|| syscall(libc::SYS_unshare, libc::CLONE_NEWUSER)), libc::EPERM);
        assert_eq!(under_filter(|| socket(libc::AF_VSOCK)), libc::EPERM);
        assert_eq!(under_filter(|| socket(libc::AF_NETLINK)), libc::EPERM);
        assert_eq!(under_filter(|| socket(libc::AF_INET)), libc::EPERM);
        assert_eq!(under_filter(|| syscall(libc::SYS_clone3, 0)), libc::ENOSYS);
        let new_user = || syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD);
        assert_eq!(under_filter(new_user), libc::EPERM);
    }

    #[test]
    fn calls_that_qemu_makes_are_allowed() {
        assert_eq!(under_filter(|| socket(libc::AF_UNIX)), 0);
        // By the C library, which falls back from clone3 to clone.
        let thread = || std::thread::spawn(|| 7).join().map_or(97, |seven| seven - 7);
        assert_eq!(under_filter(thread), 0);
    }

    #[test]
    fn the_x32_abi_is_no_way_around() {
        let x32 = || syscall(0x4000_0000 | libc::SYS_getpid, 0);
        assert_eq!(under_filter(x32), 128 + libc::SIGSYS);
    }

    fn syscall(number: libc::c_long, argument: libc::c_int) -> i32 {
        // SAFETY: each call of these tests is refused, or has no pointers.
        errno_of(unsafe { libc::syscall(number, argument, 0, 0, 0, 0) })
    }

    fn socket(family: libc::c_int) -> i32 {
        // SAFETY: no pointers; the descriptor ends with the child.
        errno_of(unsafe { libc::syscall(libc::SYS_socket, family, libc::SOCK_DGRAM, 0) })
    }
}
