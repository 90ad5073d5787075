//! The messages of version 2, as its hosts and inits wrote them.

use guest_protocol::v2::*;

common_messages!();

/// Every message that a version 2 host sends, by name.
pub(crate) fn to_guest() -> Vec<(&'static str, ToGuest)> {
    let mut messages = common_to_guest();
    messages.push(("hello", ToGuest::Hello { version: 2, session: 0x0123_4567_89ab_cdef }));
    messages
}

/// Every message that a version 2 init sends, by name.
pub(crate) fn to_host() -> Vec<(&'static str, ToHost)> {
    let mut messages = common_to_host(2);
    messages.extend([
        ("log_stdout", ToHost::Log(LogSource::Stdout, b"one\ntwo\n\0".to_vec())),
        ("log_stderr", ToHost::Log(LogSource::Stderr, b"error\n".to_vec())),
        ("log_init", ToHost::Log(LogSource::Init, b"Starting init\n".to_vec())),
        ("api_open", ToHost::ApiOpen(4)),
        ("exec_failed", ToHost::ExecFailed(1, "command `x` not found in PATH".into())),
    ]);
    messages
}
