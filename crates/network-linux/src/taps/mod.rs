//! The machines' taps: which there are and which are parked (`slots`), and how
//! they are created, configured, parked and removed (`platform_taps`).

mod platform_taps;
mod slots;

pub(crate) use platform_taps::Taps;
