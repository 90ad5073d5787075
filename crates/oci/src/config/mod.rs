//! Configuration of the image store: settings ([`settings`]), limits per image
//! ([`limits`]), registry logins ([`credentials`]), the guest's CPU level
//! ([`cpu_level`]).

pub(crate) mod cpu_level;
pub(crate) mod credentials;
pub(crate) mod limits;
pub(crate) mod settings;
