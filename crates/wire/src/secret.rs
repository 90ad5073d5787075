//! A value that must not be seen: no output of this program shows it by accident.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use zeroize::Zeroize;

/// The text of a secret. Its `Debug` form and errors about its JSON do not contain it, and
/// its memory is overwritten when it is dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text. The caller must not let it get into logs, events or errors.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Bytes of the text.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "The text of a secret.", "type": "string" })
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes in base64; in requests also an array of numbers.",
            "anyOf": [
                { "type": "string", "contentEncoding": "base64" },
                {
                    "type": "array",
                    "items": { "type": "integer", "minimum": 0, "maximum": 255 },
                },
            ],
        })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Text)
    }
}

/// Reads a text. Errors of other types must not quote them: serde's own do.
struct Text;

const NO_TEXT: &str = "must be a text";

impl Visitor<'_> for Text {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Secret, E> {
        Ok(Secret(text))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
        Err(E::custom(NO_TEXT))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        Err(E::custom(NO_TEXT))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
        Err(E::custom(NO_TEXT))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::custom(NO_TEXT))
    }
}

/// Bytes that may be secret: in JSON base64, or, where they are read, an array of numbers.
/// `Debug` does not show them, and their memory is overwritten.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bytes(Vec<u8>);

/// Most bytes of an array of numbers.
const MAX_ARRAY: usize = 1024 * 1024;

impl Bytes {
    /// These bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bytes(..)")
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(BytesVisitor)
    }
}

/// Reads both forms. Errors do not quote the value.
struct BytesVisitor;

const NO_BYTES: &str = "must be base64 or an array of bytes";

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64 or an array of bytes")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Bytes, E> {
        Ok(Bytes::default())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Bytes, E> {
        Err(E::custom(NO_BYTES))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Bytes, E> {
        Err(E::custom(NO_BYTES))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Bytes, E> {
        Err(E::custom(NO_BYTES))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Bytes, E> {
        Err(E::custom(NO_BYTES))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
        STANDARD.decode(text).map(Bytes).map_err(|_| E::custom("must be base64"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Bytes, A::Error> {
        let mut bytes = Bytes::default();
        while let Some(number) = list.next_element::<Number>()? {
            if bytes.0.len() == MAX_ARRAY {
                return Err(de::Error::custom("has too many bytes"));
            }
            bytes.0.push(number.0);
        }
        Ok(bytes)
    }
}

/// One byte of an array. The error of serde would quote a number that is none.
struct Number(u8);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = u8::deserialize(from).map(Self);
        number.map_err(|_| de::Error::custom("must be numbers from 0 to 255"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_two_forms_and_written_in_one() {
        for text in [r#""aGk=""#, "[104, 105]"] {
            let bytes: Bytes = serde_json::from_str(text).unwrap();
            assert_eq!(bytes.as_slice(), b"hi");
            assert_eq!(serde_json::to_string(&bytes).unwrap(), r#""aGk=""#);
            assert_eq!(format!("{bytes:?}"), "Bytes(..)");
        }
        for other in ["4711", r#""4711!""#, "[4711]", r#"["4711"]"#, "[-1]", r#"{"a":4711}"#] {
            let err = serde_json::from_str::<Bytes>(other).unwrap_err().to_string();
            assert!(!err.contains("4711") && !err.contains("-1"), "{other}: {err}");
        }
    }

    #[test]
    fn a_secret_is_shown_nowhere_but_in_its_json() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(serde_json::to_string(&secret).unwrap(), r#""hunter2""#);
        assert_eq!(serde_json::from_str::<Secret>(r#""hunter2""#).unwrap(), secret);
        for other in ["4711", "-4711", "47.11", "true", "[4711]", r#"{"a":4711}"#, "null"] {
            let err = serde_json::from_str::<Secret>(other).unwrap_err().to_string();
            assert!(!err.contains("4711"), "{other}: {err}");
        }
    }
}
