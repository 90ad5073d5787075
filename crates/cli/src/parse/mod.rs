//! Values of flags: pure, and tested by tables.

mod pairs;
mod ports;
mod secrets;
mod sizes;
mod text;
mod time;

pub(crate) use pairs::{file_literal, file_local, file_secret, key_value, mount};
pub(crate) use ports::{PortChange, apply_ports, parse_port};
pub(crate) use secrets::{secret_lines, secret_pair};
pub(crate) use sizes::{memory_mib, preset, presets, size_name, whole_gib};
pub(crate) use text::{capitalized, lines, paragraph, shown};
pub(crate) use time::{duration, human_bytes, moment};
