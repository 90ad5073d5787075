//! The rules for secrets: names, values, and all of an app together.

use crate::Error;
use crate::config::PLATFORM_ENV;
use crate::error::shortened;
use store::records::SecretRecord;
use wire::secret::Secret;

/// Bytes of a name.
const MAX_NAME: usize = 255;
/// Bytes of a value: below what Linux takes as one environment variable (execve(2)).
const MAX_VALUE: usize = 64 * 1024;
/// Secrets of one app.
const MAX_SECRETS: usize = 500;
/// Bytes of all values and names of an app: with the rest of its environment and files
/// they have to fit into one message to the guest.
const MAX_TOTAL: u64 = 128 * 1024;

/// A name is an environment variable's (<https://fly.io/docs/apps/secrets/>).
pub(crate) fn check_name(field: &str, name: &str) -> Result<(), Error> {
    let valid =
        |at: usize, b: u8| b == b'_' || b.is_ascii_alphabetic() || (at > 0 && b.is_ascii_digit());
    let is_valid = !name.is_empty() && name.len() <= MAX_NAME;
    if !is_valid || !name.bytes().enumerate().all(|(at, b)| valid(at, b)) {
        let rule = format!(
            "must be a name for an environment variable: letters, digits and _, not beginning \
             with a digit, at most {MAX_NAME}; not {:?}",
            shortened(name, 80)
        );
        return Err(Error::invalid(field, rule));
    }
    Ok(())
}

/// A name for a new secret: none of those that the platform sets in every machine.
pub(super) fn check_new_name(field: &str, name: &str) -> Result<(), Error> {
    check_name(field, name)?;
    match PLATFORM_ENV.contains(&name) {
        true => Err(Error::invalid(field, format!("the platform sets {name} in every machine"))),
        false => Ok(()),
    }
}

/// A value is a text without NUL bytes, which no environment variable can have.
pub(super) fn check_value(field: &str, value: &Secret) -> Result<(), Error> {
    if value.len() > MAX_VALUE {
        let rule = format!("a value has at most {MAX_VALUE} bytes, not {}", value.len());
        return Err(Error::invalid(field, rule));
    }
    match value.expose().contains('\0') {
        true => Err(Error::invalid(field, "a value must not contain a NUL byte")),
        false => Ok(()),
    }
}

/// All secrets of an app.
pub(super) fn check_all(secrets: &[SecretRecord]) -> Result<(), Error> {
    if secrets.len() > MAX_SECRETS {
        let rule = format!("an app has at most {MAX_SECRETS} secrets, not {}", secrets.len());
        return Err(Error::invalid("values", rule));
    }
    let total: u64 = secrets.iter().map(|secret| secret.size + secret.name.len() as u64).sum();
    if total > MAX_TOTAL {
        let rule =
            format!("the secrets of an app have at most {MAX_TOTAL} bytes in all, not {total}");
        return Err(Error::invalid("values", rule));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_environment_variables() {
        for name in ["A", "_", "a_1", "FLY_API_TOKEN", &"A".repeat(255)] {
            assert!(check_new_name("name", name).is_ok(), "{name}");
        }
        for name in ["", "1A", "A-B", "A.B", "A B", "A=B", "Ä", "A\0", &"A".repeat(256)] {
            let refused = check_new_name("name", name).unwrap_err();
            assert!(
                refused.to_string().starts_with("name: must be a name for an environment"),
                "{name}"
            );
        }
        let refused = check_new_name("name", "FLY_REGION").unwrap_err();
        assert_eq!(refused.to_string(), "name: the platform sets FLY_REGION in every machine");
    }

    #[test]
    fn values_have_a_size() {
        let check =
            |text: String| check_value("value", &Secret::new(text)).map_err(|e| e.to_string());
        assert_eq!(check("x".repeat(65_536)), Ok(()));
        let refused = check("x".repeat(65_537)).unwrap_err();
        assert_eq!(refused, "value: a value has at most 65536 bytes, not 65537");
        assert!(check("a\0b".into()).unwrap_err().contains("NUL"));
        assert_eq!(check(String::new()), Ok(()));
    }

    #[test]
    fn the_secrets_of_an_app_are_bounded_together() {
        let secret = |n: usize, size: u64| SecretRecord {
            name: format!("N{n:03}"),
            scope: None,
            digest: String::new(),
            sealed: String::new(),
            size,
            created_ms: 0,
            updated_ms: 0,
            version: 0,
        };
        let all =
            |count: usize, size: u64| -> Vec<_> { (0..count).map(|n| secret(n, size)).collect() };
        assert!(check_all(&all(500, 258)).is_ok());
        let many = check_all(&all(501, 1)).unwrap_err().to_string();
        assert_eq!(many, "values: an app has at most 500 secrets, not 501");
        let large = check_all(&all(2, 65_533)).unwrap_err().to_string();
        assert_eq!(
            large,
            "values: the secrets of an app have at most 131072 bytes in all, not 131074"
        );
    }
}
