//! Caveats in JSON, as `fly tokens attenuate` and `fly tokens debug` read and write them:
//! `[{"type": "Organization", "body": {…}}, …]`.

use crate::Caveat;
use serde_json::Value;

/// Most bytes of the JSON of caveats.
const MAX_JSON: usize = 64 * 1024;

/// The caveats of a JSON text.
///
/// # Errors
/// It is too long, no such list, or has a kind that is not known.
pub fn caveats_from_json(text: &str) -> Result<Vec<Caveat>, String> {
    if text.len() > MAX_JSON {
        return Err(format!("caveats may have at most {MAX_JSON} bytes"));
    }
    serde_json::from_str(text).map_err(|err| err.to_string())
}

/// The JSON of caveats. One of an unknown kind is shown with its number and cannot be read back.
pub fn caveats_to_json(caveats: &[Caveat]) -> Value {
    serde_json::to_value(caveats).expect("caveats are plain data")
}
