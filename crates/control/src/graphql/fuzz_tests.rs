//! Fuzz target: bodies as clients send them, up to where they would be carried out.

use super::{Front, GraphqlRequest};
use fuzzing::fuzz;
use std::sync::LazyLock;
use std::time::Duration;

const BODIES: [&str; 4] = [
    r#"{"query":"query($appName: String!) { app(name: $appName) { id machines { nodes { id config } } } }",
        "variables":{"appName":"web","status":"x"}}"#,
    r#"{"query":"query A { a: viewer { ... on User { id } ... on Macaroon { email } } } query B { x: apps(first: 200, after: \"\") { ...F } } fragment F on AppConnection { nodes { name @include(if: true) } }",
        "operationName":"B"}"#,
    r#"{"query":"mutation($input: CreateLimitedAccessTokenInput!) { createLimitedAccessToken(input: $input) { limitedAccessToken { tokenHeader } } }",
        "variables":{"input":{"name":"a","organizationId":1,"profile":"deploy","profileParams":{"app_id":"web"}}}}"#,
    r#"{"query":"{ __schema { types { fields(includeDeprecated: true) { type { ofType { name } } } } } }"}"#,
];

/// No body panics or overflows the stack, and what is accepted is within the bounds.
#[test]
fn bodies_of_requests() {
    static FRONT: LazyLock<Front> = LazyLock::new(|| Front::new(Duration::from_secs(1)));
    fuzz!(2000, BODIES, |bytes: &[u8]| {
        let Ok(request) = GraphqlRequest::parse(bytes) else { return };
        if let Ok(prepared) = FRONT.prepare(&request) {
            let fields = prepared.fields();
            assert!((1..=20).contains(&fields.split(',').count()), "{fields}");
        }
    });
}
