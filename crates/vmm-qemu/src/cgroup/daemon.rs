//! The cgroup that keeps the daemon able to work however busy its guests are, beside
//! theirs with the larger CPU weight, and a low rank among the victims when the host
//! runs out of memory.

use crate::cgroup::groups::{Cgroups, DAEMON, DAEMON_WEIGHT, make_dir, set_weight, write};
use camino::Utf8PathBuf;
use std::fs;
use std::io;
use std::sync::Arc;

/// Of the daemon, from -1000 (never killed) to 1000 (first); see proc_pid_oom_score_adj(5).
const DAEMON_OOM_SCORE_ADJ: &str = "-900";
/// Of the calling process; those that it starts have it from there on.
const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

/// While it exists, the calling process has its own group and is spared when memory
/// is short. Afterwards it is where it was, so that an empty host has no groups.
#[derive(Debug)]
pub(crate) struct DaemonGroup {
    cgroups: Arc<Cgroups>,
    /// The groups that the process was in.
    origins: Vec<Utf8PathBuf>,
    oom_score_adj: Option<String>,
}

impl DaemonGroup {
    /// Moves the calling process into the daemon's group, as far as that works.
    /// Returns also what did not, for the operator.
    pub(crate) fn enter(cgroups: &Arc<Cgroups>) -> (Self, Vec<String>) {
        let mut group = Self { cgroups: cgroups.clone(), origins: Vec::new(), oom_score_adj: None };
        let mut problems = Vec::new();
        if let Err(err) = group.move_in() {
            problems.push(format!("busy guests can delay the daemon, it has no cgroup: {err}"));
        }
        match lower_oom_score() {
            Ok(earlier) => group.oom_score_adj = Some(earlier),
            Err(err) => problems.push(format!(
                "the daemon may be killed when memory is short: write {OOM_SCORE_ADJ}: {err}"
            )),
        }
        (group, problems)
    }

    fn move_in(&mut self) -> io::Result<()> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let pid = std::process::id().to_string();
        for (tree, parent) in self.cgroups.cpu_groups()? {
            let dir = parent.join(DAEMON);
            make_dir(&dir)?;
            set_weight(&dir, DAEMON_WEIGHT)?;
            let origin = tree.group_of(&own).filter(|origin| *origin != dir);
            write(&dir.join("cgroup.procs"), &pid)?;
            self.origins.extend(origin);
        }
        Ok(())
    }
}

fn lower_oom_score() -> io::Result<String> {
    let earlier = fs::read_to_string(OOM_SCORE_ADJ)?;
    fs::write(OOM_SCORE_ADJ, DAEMON_OOM_SCORE_ADJ)?;
    Ok(earlier)
}

impl Drop for DaemonGroup {
    fn drop(&mut self) {
        let pid = std::process::id().to_string();
        for origin in &self.origins {
            if let Err(err) = write(&origin.join("cgroup.procs"), &pid) {
                tracing::debug!(%origin, error = %err, "cannot return to the cgroup");
            }
        }
        if let Some(Err(err)) =
            self.oom_score_adj.as_ref().map(|earlier| fs::write(OOM_SCORE_ADJ, earlier))
        {
            tracing::debug!(error = %err, "cannot restore the OOM score");
        }
        self.cgroups.remove_empty();
    }
}
