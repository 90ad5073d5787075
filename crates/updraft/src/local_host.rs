//! The host of a daemon at a socket file in its data directory, for `updraft down`.
//!
//! The file is there whatever the roles of the process are beside `worker`, and
//! needs no certificate: only the owner of the data directory can open it.

use camino::{Utf8Path, Utf8PathBuf};
use host_api::{Host, HostError};
use host_remote::{RemoteHost, Server, SocketDial};
use rt::Tasks;
use std::io;
use std::sync::Arc;

fn socket(data_dir: &Utf8Path) -> Utf8PathBuf {
    data_dir.join("host.sock")
}

/// Offers `host` at the socket file until the tasks stop.
///
/// # Errors
/// The file cannot be made.
pub(crate) fn offer(data_dir: &Utf8Path, host: Arc<dyn Host>, tasks: &Tasks) -> io::Result<()> {
    Server::new(host, tasks.child()).listen_locally(socket(data_dir).as_std_path())
}

/// The host of the daemon that works on the data directory; `None` if it offers none:
/// it does not have the role `worker`, or is of an earlier version.
///
/// # Errors
/// It does not answer.
pub(crate) async fn connect(
    data_dir: &Utf8Path,
    tasks: &Tasks,
) -> Result<Option<RemoteHost>, HostError> {
    let path = socket(data_dir);
    if !path.exists() {
        return Ok(None);
    }
    let dial = Arc::new(SocketDial::new(path.as_std_path()));
    RemoteHost::find(dial, tasks.clone()).await.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_api::{CallContext, Status};
    use model::id::HostId;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;
    use testkit::FakeHost;

    #[tokio::test]
    async fn a_host_is_found_at_the_socket_file_whatever_its_number_and_path() {
        let dir = tempfile::tempdir().unwrap();
        // Longer than the address of a socket may be.
        let dir = Utf8Path::from_path(dir.path()).unwrap().join("d".repeat(150));
        std::fs::create_dir(&dir).unwrap();
        let (first, second, caller) = (Tasks::new(), Tasks::new(), Tasks::new());
        assert!(connect(&dir, &caller).await.unwrap().is_none(), "there is no file");
        offer(&dir, Arc::new(FakeHost::new(HostId(7), "local")), &first).unwrap();
        first.stop();
        // The file of a process that was killed is still there.
        offer(&dir, Arc::new(FakeHost::new(HostId(9), "local")), &second).unwrap();
        let mode = socket(&dir).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let host = connect(&dir, &caller).await.unwrap().unwrap();
        let info = host.info(CallContext::control(Duration::from_secs(10))).await.unwrap();
        assert_eq!(info.host, HostId(9));
        second.stop();
    }
}
