//! What happens to one request: its head, its body, the answer of the app or of
//! the edge itself, and upgraded connections.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod code;
pub(crate) mod failure;
pub(crate) mod forward;
pub(crate) mod headers;
pub(crate) mod outgoing;
pub(crate) mod serve;
pub(crate) mod timing;
pub(crate) mod tunnel;
