//! Validation of `files[]` of a machine or container.

use super::validation::{ValidationErrors, secret_name};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use wire::machines::File;

pub(super) fn check(errors: &mut ValidationErrors, list: &str, files: &[File]) {
    for (i, file) in files.iter().enumerate() {
        let at = format!("{list}[{i}]");
        let path = &file.guest_path;
        if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
            errors.add(format!("{at}.guest_path"), "must be the absolute path of a file");
        }
        let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        let secret = set(&file.secret_name);
        let config = set(&file.image_config);
        // An empty raw_value is an empty file.
        match u8::from(file.raw_value.is_some()) + u8::from(secret) + u8::from(config) {
            1 => {}
            _ => errors.add(&at, "needs exactly one of raw_value, secret_name and image_config"),
        }
        if file.raw_value.as_deref().is_some_and(|text| STANDARD.decode(text).is_err()) {
            errors.add(format!("{at}.raw_value"), "must be base64");
        }
        if let Some(name) = file.secret_name.as_deref().filter(|name| !name.is_empty()) {
            secret_name(errors, &format!("{at}.secret_name"), name);
        }
        if config {
            errors.unsupported(format!("{at}.image_config"), "is not supported yet");
        }
        if file.mode.is_some_and(|mode| mode > 0o7777) {
            errors.add(format!("{at}.mode"), "must be permission bits, at most 4095 (octal 7777)");
        }
    }
}
