//! Keys of the records.

/// Prefix of the keys of apps.
pub const APPS: &str = "/apps/";
/// Prefix of the keys of machines.
pub const MACHINES: &str = "/machines/";
/// Prefix of the keys of machine names.
pub const NAMES: &str = "/machine-names/";
/// Prefix of the keys of tokens.
pub const TOKENS: &str = "/tokens/";

/// Key of an organisation.
pub fn org_key(slug: &str) -> String {
    format!("/orgs/{slug}")
}

/// Key of a network of an organisation.
pub fn network_key(org: &str, name: &str) -> String {
    format!("/networks/{org}/{name}")
}

/// Key of the last number that was allocated from a counter.
pub fn counter_key(counter: &str) -> String {
    format!("/counters/{counter}")
}

/// Key of an app.
pub fn app_key(app: &str) -> String {
    format!("{APPS}{app}")
}

/// Key of the name of the app that `org` created with an idempotency key.
/// Organisations do not share keys.
pub fn idempotency_key(org: &str, key: &str) -> String {
    format!("/idempotency/apps/{org}/{key}")
}

/// Key of the same before keys belonged to organisations.
pub fn shared_idempotency_key(key: &str) -> String {
    format!("/idempotency/apps/{key}")
}

/// Prefix of the names of an app's machines.
pub fn names_of(app: &str) -> String {
    format!("{NAMES}{app}/")
}

/// Key of the name of a machine.
pub fn name_key(app: &str, name: &str) -> String {
    format!("{NAMES}{app}/{name}")
}

/// Key of a machine.
pub fn machine_key(id: &str) -> String {
    format!("{MACHINES}{id}")
}

/// Key of a token by the SHA-256 of it in hex.
pub fn token_key(sha256: &str) -> String {
    format!("{TOKENS}{sha256}")
}
