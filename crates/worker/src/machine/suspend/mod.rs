//! Suspend: the VM is drained, its guest quiesced, its snapshot written, and the VM
//! removed. `suspending` decides and records, `save` does the slow work, `snapshot`
//! knows the files and when a snapshot may be restored.

pub(super) mod save;
pub(super) mod snapshot;
mod suspending;
