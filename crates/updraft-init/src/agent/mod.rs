//! The session with the host: the agent port, what waits to be sent on it, and
//! the event loop that owns all state of init and acts on what the host sends.

mod dispatch;
pub(crate) mod event_loop;
pub(crate) mod guest_api;
pub(crate) mod log_queue;
pub(crate) mod notifier;
mod oidc_token;
pub(crate) mod outbox;
pub(crate) mod port;
mod state;
mod worker_events;
