//! Reads fields that clients are known to send in another form, with errors that name the
//! expected one.

use super::{CheckHeader, Mount};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::marker::PhantomData;

/// Reads `mounts`: `fly.toml` has one table of that name.
pub(super) fn mounts<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<Mount>>, D::Error> {
    list(from, "a list of mounts")
}

/// Reads the header fields of a check: `fly.toml` has a table of names and values.
pub(super) fn check_headers<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<CheckHeader>>, D::Error> {
    list(from, "a list of header fields, each with a name and a list of values")
}

/// Reads an object in which an entry without a value is as if absent.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<BTreeMap<String, T>>, D::Error> {
    let all = Option::<BTreeMap<String, Option<T>>>::deserialize(from)?;
    Ok(all.map(|all| all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()))
}

fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
    expected: &'static str,
) -> Result<Option<Vec<T>>, D::Error> {
    from.deserialize_any(List { expected, of: PhantomData })
}

struct List<T> {
    expected: &'static str,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Option<Vec<T>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(Some)
    }
}
