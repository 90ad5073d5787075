//! The caller, and members.

use super::super::session::Session;
use crate::tokens::Found;
use serde_json::{Value, json};

/// A person, by its e-mail address. A token of no member is known by its name.
pub(super) fn user(email: &str) -> Value {
    json!({
        "__typename": "User",
        "id": email,
        "email": email,
        "name": email,
        "enablePaidHobby": false,
        "agreedToProviderTos": false,
    })
}

/// The caller by its first token.
pub(super) fn viewer(session: &Session) -> Value {
    let token = session.tokens.first().map(|found| &found.record);
    let shown = user(&Found::holder(&session.tokens));
    if token.is_some_and(|token| token.macaroon) {
        return json!({ "__typename": "Macaroon", "email": shown["email"] });
    }
    shown
}
