//! The platform as of now. QEMU may be upgraded while the daemon runs, and finding
//! out about it reads the guest's files, so the last answer is kept.

use crate::config::QemuConfig;
use crate::platform::{self, Platform};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use worker::ports::PortError;

/// The last known platform, and of which QEMU program it is.
#[derive(Debug, Default)]
pub(crate) struct CurrentPlatform {
    /// Held for an instant only.
    known: Mutex<Option<(String, Arc<Platform>)>>,
    /// Held while the host is looked at; a second caller waits for the first.
    refreshing: Mutex<()>,
}

impl CurrentPlatform {
    /// The known platform, unless QEMU has been replaced since. Does not wait for
    /// a refresh that is under way.
    ///
    /// # Errors
    /// The QEMU program cannot be found.
    pub(crate) fn known(&self, config: &QemuConfig) -> Result<Option<Arc<Platform>>, PortError> {
        let qemu = qemu_identity(config)?;
        let known = locked(&self.known);
        Ok(known.as_ref().filter(|(of, _)| *of == qemu).map(|(_, platform)| platform.clone()))
    }

    /// The platform as of now; `changed` is called with a new one. Blocks.
    ///
    /// # Errors
    /// QEMU or the guest's files cannot be read.
    pub(crate) fn get(
        &self,
        config: &QemuConfig,
        changed: impl FnOnce(&Platform),
    ) -> Result<Arc<Platform>, PortError> {
        let _refreshing = locked(&self.refreshing);
        if let Some(platform) = self.known(config)? {
            return Ok(platform);
        }
        let qemu = qemu_identity(config)?;
        let platform = Arc::new(Platform::of(config)?);
        changed(&platform);
        *locked(&self.known) = Some((qemu, platform.clone()));
        Ok(platform)
    }
}

fn qemu_identity(config: &QemuConfig) -> Result<String, PortError> {
    let identity = platform::identity(&config.qemu);
    identity.map_err(|err| PortError::new(format!("look at {}", config.qemu), err))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
