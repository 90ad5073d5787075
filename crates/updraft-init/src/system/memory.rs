//! How the kernel behaves when memory runs out.

/// Pages used within this many milliseconds are not reclaimed; when nothing else
/// is left, the OOM killer acts. Without it a guest without swap thrashes on the
/// pages of its programs for minutes before a process is killed. See
/// docs.kernel.org/admin-guide/mm/multigen_lru.html.
const MIN_TTL_MS: &str = "1000";

/// Enables the multi-generational LRU, where the kernel has it, with a working
/// set that is protected from thrashing.
pub(crate) fn protect_working_set() {
    const DIR: &str = "/sys/kernel/mm/lru_gen";
    let _ = std::fs::write(format!("{DIR}/enabled"), "y");
    let _ = std::fs::write(format!("{DIR}/min_ttl_ms"), MIN_TTL_MS);
}
