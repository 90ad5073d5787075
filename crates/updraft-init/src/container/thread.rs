//! Work on a thread that is used for nothing else: root, directory and namespaces of a
//! thread are its own, and go with it.

use std::thread::Builder;

/// Stack of such a thread: file reads and a few system calls.
const STACK: usize = 512 * 1024;

/// Runs `work` on a thread of its own, and waits for it.
pub(super) fn on_own_thread<T: Send, E: From<String> + Send>(
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    std::thread::scope(|scope| {
        let thread = Builder::new().name("container".into()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, work);
        let thread = thread.map_err(|err| format!("cannot start a thread: {err}"))?;
        let failed = |_| Err("a thread of init has panicked".to_owned().into());
        thread.join().unwrap_or_else(failed)
    })
}

/// Takes the calling thread out of what it shares with others.
pub(super) fn unshare(flags: i32) -> Result<(), String> {
    // SAFETY: takes any flags; the file table is never among them.
    let done = unsafe { libc::unshare(flags) };
    match done {
        0 => Ok(()),
        _ => Err(format!("cannot unshare: {}", std::io::Error::last_os_error())),
    }
}
