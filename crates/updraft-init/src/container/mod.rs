//! Containers: the root file system of each, and the mount and process id namespaces
//! in which its processes run.

pub(crate) mod roots;
pub(crate) mod space;
mod thread;
