//! The port `worker::Images`: its implementation ([`port`]), the import of
//! archives ([`import`]), and the removal of names and images ([`removal`]).

pub(crate) mod import;
pub(crate) mod port;
pub(crate) mod removal;
