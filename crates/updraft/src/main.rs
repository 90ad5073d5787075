//! The one binary: daemon and command line.
fn main() {}
