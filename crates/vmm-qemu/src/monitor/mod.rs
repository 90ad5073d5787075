//! The conversation with a running QEMU: QMP (the QEMU Machine Protocol), the
//! task per VM that sends commands and notices the end of the guest, and the tail
//! of the guest's console. Which commands a VM is sent is decided in `driver`.

pub(crate) mod console;
mod control;
pub(crate) mod qmp;
mod watch;

pub(crate) use control::{Control, Exit, MonitorCommand};
pub(crate) use watch::{Running, is_paused, loaded, watch};
