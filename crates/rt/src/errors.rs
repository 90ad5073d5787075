//! An error and its causes, as a list and in one line.

use std::error::Error;

/// The texts of an error and of its sources, outermost first. A source whose text
/// the error before it already ends with is left out, since some libraries put
/// their source into their message.
pub fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if causes.last().is_none_or(|last| !last.ends_with(&text)) {
            causes.push(text);
        }
        next = cause.source();
    }
    causes
}

/// The [`causes`] of an error in one line: `what: why: why that`.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).join(": ")
}
