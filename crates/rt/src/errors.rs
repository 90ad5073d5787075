//! An error and its causes in one line.

use std::error::Error;

/// `what: why: why that`. A cause whose text its effect already ends with is
/// not repeated, since some libraries put their source into their message.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}
