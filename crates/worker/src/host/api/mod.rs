//! `host_api::Host`, as the worker implements it: one file per concern. `call` has what
//! holds of every call: deadline, epoch of ownership, idempotency key.

mod call;
mod connections;
mod event_feed;
mod exec;
mod images;
mod load;
mod logs;
mod machines;
mod routes;
mod secrets;
mod status;
mod volumes;
