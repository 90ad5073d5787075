//! Validation of `files[]` of a machine or container, and of `statics[]`, the files that
//! an edge serves.

use super::validation::{ValidationErrors, quote, secret_name};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::BTreeSet;
use wire::machines::{File, MachineConfig};

const MAX_STATICS: usize = 10;
const MAX_STATICS_TEXT: usize = 1024;

/// References of all images of a machine.
pub(super) fn images(config: &MachineConfig) -> BTreeSet<&str> {
    let containers = config.containers.iter().flatten();
    let all = containers.filter_map(|container| container.image.as_deref());
    all.chain([config.image.as_str()]).filter(|image| !image.is_empty()).collect()
}

pub(super) fn check(
    errors: &mut ValidationErrors,
    list: &str,
    files: &[File],
    images: &BTreeSet<&str>,
) {
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
        let image = file.image_config.as_deref().filter(|image| !image.is_empty());
        if let Some(image) = image.filter(|image| !images.contains(image)) {
            // The config of another image would need a pull of its own.
            let why = format!(
                "must be the image of the machine or of one of its containers; the config of {} \
                 is not supported yet",
                quote(image)
            );
            errors.unsupported(format!("{at}.image_config"), why);
        }
        if file.mode.is_some_and(|mode| mode > 0o7777) {
            errors.add(format!("{at}.mode"), "must be permission bits, at most 4095 (octal 7777)");
        }
    }
}

/// The entries are kept as they are, so that a config that was once accepted can be read.
pub(super) fn check_statics(errors: &mut ValidationErrors, config: &MachineConfig) {
    let Some(statics) = config.statics.as_ref().filter(|value| !value.is_null()) else {
        return;
    };
    let Some(list) = statics.as_array() else {
        return errors.add("config.statics", "must be a list of {guest_path, url_prefix}");
    };
    if list.len() > MAX_STATICS {
        return errors.add("config.statics", format!("must have at most {MAX_STATICS} entries"));
    }
    for (i, entry) in list.iter().enumerate() {
        let at = format!("config.statics[{i}]");
        let Some(entry) = entry.as_object() else {
            errors.add(at, "must be an object with guest_path and url_prefix");
            continue;
        };
        for (field, path) in [
            ("guest_path", true),
            ("url_prefix", true),
            ("index_document", false),
            ("tigris_bucket", false),
        ] {
            let field_at = format!("{at}.{field}");
            match entry.get(field) {
                None | Some(Value::Null) if path => errors.add(field_at, "is required"),
                None | Some(Value::Null) => {}
                Some(Value::String(text)) => {
                    let fits = text.len() <= MAX_STATICS_TEXT && !text.contains(char::is_control);
                    if !fits || path && !text.starts_with('/') {
                        let begins = if path { "begin with /, " } else { "" };
                        let rule = format!(
                            "must {begins}have at most {MAX_STATICS_TEXT} bytes and no control \
                             characters"
                        );
                        errors.add(field_at, rule);
                    }
                }
                Some(_) => errors.add(field_at, "must be a string"),
            }
        }
    }
}
