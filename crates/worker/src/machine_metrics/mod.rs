//! Metrics of the machines of this host, with the names and labels of the platform
//! (<https://fly.io/docs/monitoring/metrics/>).
//!
//! Nothing is kept: when the host's metrics are read, every guest is asked for the counters
//! of its kernel (`collect`), and apps that offer metrics are asked for theirs (`scrape`).
//! `guest` reads the files of a guest's `/proc`, `families` writes what came of all of it.
//! What a guest or an app sends is hostile: sizes, counts and waits are bounded.

mod app;
mod collect;
mod families;
mod guest;
mod scrape;
