//! Why a host cannot start.

use crate::ports::PortError;
use camino::Utf8PathBuf;

/// Why a host cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its directories or log files cannot be made.
    #[error("prepare {path}")]
    Prepare {
        /// Which.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        err: std::io::Error,
    },
    /// Its database cannot be opened or read.
    #[error("open the host's database")]
    Database(#[source] sqlite::Error),
    /// Its network or hypervisor cannot be used.
    #[error("prepare the host")]
    Port(#[source] PortError),
}
