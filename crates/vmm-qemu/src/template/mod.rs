//! Templates: memory and device state of a guest that has booted and waits to be
//! configured. New machines of the same shape start as copies of it. Here: their
//! files and the loaded ones; they are made in `driver::template_builder`.

pub(crate) mod store;
