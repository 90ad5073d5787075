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
    /// Its database is new, but there are machines that an earlier one recorded.
    #[error(
        "{database} names no machine, but there are {directories} directories of machines and \
         {vms} VMs: restore it from a backup, or start once with --discard-unrecorded=true to \
         end these VMs and delete these machines' files"
    )]
    Unrecorded {
        /// Its path.
        database: Utf8PathBuf,
        /// How many directories of machines there are.
        directories: usize,
        /// How many VMs there are, or remains of such.
        vms: usize,
    },
    /// Its network or hypervisor cannot be used.
    #[error("prepare the host")]
    Port(#[source] PortError),
}
