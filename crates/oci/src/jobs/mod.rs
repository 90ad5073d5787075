//! The state that running jobs share: the store, threads for blocking work and the last
//! step of each job ([`shared`]), the permits and guards of a running job ([`job`]), one job per digest ([`singleflight`]), limits
//! on jobs ([`admission`]), protection from garbage collection ([`gc_guard`]), locks
//! on downloads ([`blob_locks`]), progress ([`progress`]).

pub(crate) mod admission;
pub(crate) mod blob_locks;
pub(crate) mod gc_guard;
pub(crate) mod job;
pub(crate) mod progress;
pub(crate) mod shared;
pub(crate) mod singleflight;
