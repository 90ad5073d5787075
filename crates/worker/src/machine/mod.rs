//! The life of one machine. `task` owns the machine: it takes requests and
//! messages of the VM, makes each change durable before it is shown, and asks
//! `step` what to do next. `phase` holds what exists of the VM. Each folder is one
//! part of the life: `boot` (image, disk, network, VM, session with the guest),
//! `suspend` (snapshot), `down` (stop, removal, restart policy). In each folder
//! the file named after an activity (`starting`, `suspending`, `ending`) decides
//! and records; the others do the slow work beside the task.

mod boot;
mod commit;
mod down;
mod events;
mod handle;
mod health;
mod leases;
mod phase;
mod requests;
mod step;
mod suspend;
mod task;
pub(crate) mod view;
pub(crate) mod wait;

pub(crate) use events::{EventIds, new_event};
pub(crate) use handle::{AtStart, Call, Guard, Handle, Reply, Request};
pub(crate) use leases::{change_of_grant, change_of_release, shown};
pub(crate) use task::{TaskEnd, new};
