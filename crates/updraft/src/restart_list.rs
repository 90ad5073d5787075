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
    pub(crate) async fn start_all(&self, client: &Client) {
        let running = self.read().unwrap_or_else(|err| {
            tracing::warn!(path = %self.path, error = %err, "cannot read which machines ran");
            Vec::new()
        });
        for one in running {
            let Running { app, machine } = &one;
            let started = client.start_machine(app, machine).await;
            match &started {
                Ok(_) => tracing::info!(app, machine, "started again after `updraft down`"),
                Err(err) => tracing::warn!(
                    app,
                    machine,
                    error = rt::chain(err),
                    tried_again_by_the_next_up = is_transient(err),
                    "cannot start again what ran before `updraft down`"
                ),
            }
            if started.as_ref().is_err_and(is_transient) {
                continue;
            }
            if let Err(err) = self.remove(&one) {
                tracing::warn!(path = %self.path, error = %err, "take a machine off the list");
            }
        }
    }
}

/// The same start may succeed later: no answer, too much to do, or no room now.
fn is_transient(err: &client::Error) -> bool {
    err.status().is_none_or(|status| matches!(status, 408 | 422 | 429 | 500..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_machine_that_is_started_leaves_the_list() {
        use axum::http::StatusCode;
        let dir = tempfile::tempdir().unwrap();
        let list = RestartList::at(Utf8Path::from_path(dir.path()).unwrap());
        let all = ["ok", "gone", "busy", "away"];
        let all = all.map(|id| Running { app: "web".into(), machine: id.into() });
        list.write(&all).unwrap();
        let start = async |axum::extract::Path(id): axum::extract::Path<String>| {
            let started = serde_json::json!({
                "previous_state": "stopped", "migrated": false, "new_host": "", "resumed": false,
            });
            let refused = |code: StatusCode| {
                (code, axum::Json(serde_json::json!({ "error": "no", "status": "unknown" })))
            };
            match id.as_str() {
                "ok" => (StatusCode::OK, axum::Json(started)),
                "gone" => refused(StatusCode::NOT_FOUND),
                "busy" => refused(StatusCode::TOO_MANY_REQUESTS),
                _ => refused(StatusCode::SERVICE_UNAVAILABLE),
            }
        };
        let path = "/v1/apps/web/machines/{id}/start";
        let router = axum::Router::new().route(path, axum::routing::post(start));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let tasks = rt::Tasks::new();
        tasks.spawn_until_stop(async move { axum::serve(listener, router).await.unwrap() });
        list.start_all(&Client::new(&url, Some("token")).unwrap()).await;
        assert_eq!(list.read().unwrap(), all[2..]);
        tasks.stop();
        for one in &all[2..] {
            list.remove(one).unwrap();
        }
        assert!(!list.path.exists());
    }

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
