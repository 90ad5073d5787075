//! x
pub struct ScratchDisks;
