//! Organizations.

use crate::http_api::openapi::operation::{Operation, get};
use wire::machines::WatchEvent;
use wire::tokens::CurrentTokens;

pub(super) fn all() -> Vec<Operation> {
    vec![
        get("/v1/orgs/{org}/watch", "watchOrg", "Follow the events of the organization's machines")
            .text("last_event_id", "As the header `Last-Event-ID`: continue after this event.")
            .answers_events::<WatchEvent>()
            .addition(),
        get("/v1/tokens/current", "currentTokens", "The tokens of the request")
            .answers::<CurrentTokens>(),
    ]
}
