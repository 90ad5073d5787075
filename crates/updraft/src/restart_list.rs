//! Machines that ran when `updraft down` stopped them: the next `up` starts them.
//!
//! A stop through the API is meant to last, and `down` is not. So the list is
//! kept beside the records, and used once.

use camino::{Utf8Path, Utf8PathBuf};
use client::Client;
use serde::{Deserialize, Serialize};
use std::io;

/// A machine that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    /// Name of its app.
    pub(crate) app: String,
    /// Its id.
    pub(crate) machine: String,
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
    pub(crate) fn write(&self, running: &[Running]) -> io::Result<()> {
        let mut all = self.read()?;
        all.extend(running.iter().filter(|one| !all.contains(one)).cloned().collect::<Vec<_>>());
        let text = serde_json::to_vec_pretty(&all).map_err(io::Error::other)?;
        rt::fs::write_atomic(self.path.as_std_path(), &text, 0o600)
    }

    fn read(&self) -> io::Result<Vec<Running>> {
        match std::fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(err) => Err(err),
        }
    }

    /// Starts what is in the list and removes it. A machine that cannot be
    /// started is logged and dropped: a later `up` must not start it by surprise.
    pub(crate) async fn start_all(&self, client: &Client) {
        let running = self.read().unwrap_or_else(|err| {
            tracing::warn!(path = %self.path, error = %err, "cannot read which machines ran");
            Vec::new()
        });
        for Running { app, machine } in running {
            match client.start_machine(&app, &machine).await {
                Ok(_) => tracing::info!(app, machine, "started again after `updraft down`"),
                Err(err) => tracing::warn!(
                    app,
                    machine,
                    error = rt::chain(&err),
                    "cannot start again what ran before `updraft down`"
                ),
            }
        }
        match std::fs::remove_file(&self.path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path, error = %err, "cannot remove the list");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_added_to_and_kept_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let list = RestartList::at(Utf8Path::from_path(dir.path()).unwrap());
        assert_eq!(list.read().unwrap(), []);
        let one = Running { app: "web".into(), machine: "1".into() };
        let two = Running { app: "web".into(), machine: "2".into() };
        list.write(std::slice::from_ref(&one)).unwrap();
        // The second `down` sees only what the first had not stopped yet.
        list.write(&[two.clone(), one.clone()]).unwrap();
        assert_eq!(list.read().unwrap(), [one, two]);
        assert_eq!(list.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
