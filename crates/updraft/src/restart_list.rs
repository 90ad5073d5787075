//! Machines that ran when `updraft down` stopped them: the next `up` starts them.
//!
//! A stop by a user is meant to last, and `down` is not. So the list is
//! kept beside the records, and used once.

use camino::{Utf8Path, Utf8PathBuf};
use host_api::{CallContext, HostError, Machines};
use model::id::MachineId;
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;

/// Time for the host to record a start.
const CALL: Duration = Duration::from_secs(30);

/// A machine that ran. Lists of earlier versions name its app, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    /// Its id.
    machine: MachineId,
}

/// The list of one data directory.
#[derive(Clone, Debug)]
pub(crate) struct RestartList {
    path: Utf8PathBuf,
}

impl RestartList {
    /// The list in this data directory, whether it is there or not.
    pub(crate) fn at(data_dir: &Utf8Path) -> Self {
        Self { path: data_dir.join("restart-list.json") }
    }

    /// Adds machines to the list: a `down` that was interrupted has left some.
    pub(super) fn write(&self, running: &[MachineId]) -> io::Result<()> {
        let mut all = self.read()?;
        for &machine in running {
            let one = Running { machine };
            if !all.contains(&one) {
                all.push(one);
            }
        }
        self.replace(&all)
    }

    /// Takes a machine off the list; the last one takes the file with it.
    fn remove(&self, one: &Running) -> io::Result<()> {
        let mut all = self.read()?;
        all.retain(|other| other != one);
        match all.is_empty() {
            true => std::fs::remove_file(&self.path),
            false => self.replace(&all),
        }
    }

    fn replace(&self, all: &[Running]) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(all).map_err(io::Error::other)?;
        rt::fs::write_atomic(self.path.as_std_path(), &text, 0o600)
    }

    fn read(&self) -> io::Result<Vec<Running>> {
        match std::fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(err) => Err(err),
        }
    }

    /// Starts what is in the list and takes it off, one machine after the other:
    /// an `up` that is killed in between leaves the others to the next one. A
    /// machine that may be started later stays; one that cannot be started is
    /// logged and dropped: a later `up` must not start it by surprise.
    pub(crate) async fn start_all(&self, host: &dyn Machines) {
        let running = self.read().unwrap_or_else(|err| {
            tracing::warn!(path = %self.path, error = %err, "cannot read which machines ran");
            Vec::new()
        });
        for one in running {
            let machine = one.machine;
            let started = host.start(CallContext::control(CALL), machine).await;
            match &started {
                Ok(_) => tracing::info!(%machine, "started again after `updraft down`"),
                Err(err) => tracing::warn!(
                    %machine,
                    error = rt::chain(err),
                    tried_again_by_the_next_up = may_start_later(err),
                    "cannot start again what ran before `updraft down`"
                ),
            }
            if started.as_ref().is_err_and(may_start_later) {
                continue;
            }
            if let Err(err) = self.remove(&one) {
                tracing::warn!(path = %self.path, error = %err, "take a machine off the list");
            }
        }
    }
}

/// The same start may succeed later: no answer, too much to do, or no room now.
fn may_start_later(err: &HostError) -> bool {
    err.is_transient() || matches!(err, HostError::NoCapacity(_) | HostError::Internal(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::HostId;
    use testkit::FakeHost;

    #[tokio::test]
    async fn each_machine_that_is_started_leaves_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let list = RestartList::at(Utf8Path::from_path(dir.path()).unwrap());
        let host = FakeHost::new(HostId(3), "local");
        let mut all = Vec::new();
        for n in 1..=4 {
            let id = testkit::create_machine(&host, n).await;
            host.stop(CallContext::control(CALL), id, Default::default()).await.unwrap();
            all.push(id);
        }
        list.write(&all).unwrap();
        // The fourth is started; the first is gone.
        host.fail_next("start", HostError::NotFound("no such machine".into()));
        host.fail_next("start", HostError::NoCapacity("no memory".into()));
        host.fail_next("start", HostError::unreachable("the host is away"));
        list.start_all(&host).await;
        let left: Vec<_> = list.read().unwrap().iter().map(|one| one.machine).collect();
        assert_eq!(left, all[1..3]);
        assert_eq!(host.states().iter().filter(|state| **state == "started").count(), 1);
        list.start_all(&host).await;
        assert!(!list.path.exists());
        assert_eq!(host.states().iter().filter(|state| **state == "started").count(), 3);
    }

    #[test]
    fn a_list_is_added_to_and_kept_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let list = RestartList::at(Utf8Path::from_path(dir.path()).unwrap());
        assert_eq!(list.read().unwrap(), []);
        let [one, two] = [1, 2].map(MachineId::from_random);
        // As an earlier version has written it.
        let old = format!(r#"[{{"app": "web", "machine": "{one}"}}]"#);
        std::fs::write(&list.path, old).unwrap();
        // The second `down` sees only what the first had not stopped yet.
        list.write(&[two, one]).unwrap();
        assert_eq!(list.read().unwrap(), [one, two].map(|machine| Running { machine }));
        assert_eq!(list.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
