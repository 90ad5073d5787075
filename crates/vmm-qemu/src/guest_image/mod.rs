//! The boot files of every guest: the distribution's kernel, the modules that a guest
//! needs of it, and the initramfs with our init.

mod decompress;
pub mod initramfs;
pub mod kernel;
