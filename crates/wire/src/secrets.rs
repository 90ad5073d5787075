//! Secrets of an app, as the API takes and shows them.

use crate::secret::{Bytes, Secret};
use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The machines that a secret is for. In JSON `{"group": …}` or `{"machine": …}`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SecretScope {
    /// Those of a process group: the label `fly_process_group`, else `app`.
    Group(String),
    /// One machine, by id.
    Machine(String),
}

/// One secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppSecret {
    /// Name; also that of the environment variable.
    pub name: String,
    /// Same for the same value of this secret, and of no use to find the value.
    #[serde(default)]
    pub digest: String,
    /// The value, if it was asked for and may be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Secret>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// RFC 3339; last change of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// The machines that it is for; absent means all of the app. An Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<SecretScope>,
    /// Version of the app's secrets that its value came with; an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_version: Option<u64>,
}

/// Secrets of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppSecrets {
    /// By name.
    pub secrets: Vec<AppSecret>,
    /// Version of the app's secrets, which grows with each change; in answers to a list
    /// an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// A change of several secrets at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeSecrets {
    /// Values by name; `null` removes a secret.
    #[serde(default, deserialize_with = "values")]
    pub values: BTreeMap<String, Option<Secret>>,
    /// The machines that they are for; an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<SecretScope>,
}

/// A new value of one secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SetSecret {
    /// The value.
    #[serde(default)]
    pub value: Option<Secret>,
    /// The machines that it is for; an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<SecretScope>,
}

/// Answer to a change of one secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretChanged {
    /// The secret; absent once it is removed.
    #[serde(flatten)]
    pub secret: Option<AppSecret>,
    /// Version of the app's secrets after it.
    pub version: u64,
}

/// A value in the form of the API before secrets and secret keys were apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TypedSecret {
    /// The value.
    #[serde(default)]
    pub value: Option<Bytes>,
}

/// A secret or key in that form, without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TypedSecretSet {
    /// Name.
    pub label: String,
    /// Type as it was given.
    #[serde(rename = "type")]
    pub kind: String,
    /// Bytes of the public part; none for a secret and for a symmetric key.
    pub publickey: Vec<u8>,
}

/// Reads an object of texts. Errors must not quote what is there in its place.
fn values<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, Option<Secret>>, D::Error> {
    struct Values;

    impl<'de> Visitor<'de> for Values {
        type Value = BTreeMap<String, Option<Secret>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of texts by name")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
            Err(E::custom("must be an object of texts by name"))
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut values = BTreeMap::new();
            while let Some(name) = map.next_key::<String>()? {
                let value = map.next_value()?;
                if values.insert(name, value).is_some() {
                    return Err(de::Error::custom("has a name twice"));
                }
            }
            Ok(values)
        }
    }

    from.deserialize_any(Values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_do_not_quote_values() {
        for body in [
            r#"{"values":"hunter2"}"#,
            r#"{"values":{"A":["hunter2"]}}"#,
            r#"{"values":{"A":{"hunter2":1}}}"#,
            r#"{"values":{"A":"1","A":"hunter2"}}"#,
        ] {
            let err = serde_json::from_str::<ChangeSecrets>(body).unwrap_err().to_string();
            assert!(!err.contains("hunter2"), "{body}: {err}");
        }
        let change: ChangeSecrets =
            serde_json::from_str(r#"{"values":{"A":"1","B":null},"scope":{"group":"web"}}"#)
                .unwrap();
        assert_eq!(change.values["A"], Some(Secret::new("1")));
        assert_eq!(change.values["B"], None);
        assert_eq!(change.scope, Some(SecretScope::Group("web".into())));
    }

    #[test]
    fn a_secret_in_json() {
        let secret = AppSecret {
            name: "A".into(),
            digest: "d".into(),
            value: None,
            created_at: None,
            updated_at: None,
            scope: None,
            since_version: None,
        };
        let changed = SecretChanged { secret: Some(secret), version: 7 };
        let json = serde_json::to_string(&changed).unwrap();
        assert_eq!(json, r#"{"name":"A","digest":"d","version":7}"#);
        let removed = SecretChanged { secret: None, version: 8 };
        assert_eq!(serde_json::to_string(&removed).unwrap(), r#"{"version":8}"#);
    }
}
