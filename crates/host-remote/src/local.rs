//! A host at a socket file of its own machine (unix(7)), for programs of the user
//! that runs it. No certificates: a process that may open the file may call everything.

use crate::client::Dial;
use crate::identity::{Peer, Role};
use crate::server::{Listener, Server};
use async_trait::async_trait;
use host_api::GuestStream;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// The name that callers at a socket file have in logs.
const NAME: &str = "local";

impl Server {
    /// Accepts callers at the socket file `path` until the tasks stop. A file that an
    /// earlier process has left there is replaced.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn listen_locally(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
        let listener = through_directory(path, |short| UnixListener::bind(short))?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        let server = self.clone();
        self.tasks().spawn_until_stop(async move {
            let peer = Peer { name: NAME.into(), roles: [Role::Control].into() };
            server
                .accept(listener, |stream| std::future::ready(Some((peer.clone(), stream))))
                .await;
        });
        Ok(())
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Option<IpAddr>)> {
        Ok((self.accept().await?.0, None))
    }
}

/// Dials a socket file.
#[derive(Clone, Debug)]
pub struct SocketDial(PathBuf);

impl SocketDial {
    /// The host at the socket file `path`.
    pub fn new(path: &Path) -> Self {
        Self(path.into())
    }
}

#[async_trait]
impl Dial for SocketDial {
    async fn dial(&self) -> io::Result<Box<dyn GuestStream>> {
        let stream = through_directory(&self.0, |short| {
            let stream = std::os::unix::net::UnixStream::connect(short)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        })?;
        Ok(Box::new(UnixStream::from_std(stream)?))
    }
}

/// The address of a socket has room for 107 bytes, so the directory is named by a
/// file descriptor.
fn through_directory<T>(path: &Path, open: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = File::open(dir)?;
    open(&Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name))
}
