//! Commands from arguments to output, against a server that answers by a script.

mod fake;
mod help;
mod images;
mod machines;
mod session;
