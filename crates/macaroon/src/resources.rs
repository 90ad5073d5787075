//! Resources by id, each with the actions that are permitted on it.

use crate::Action;
use crate::denial::Denial;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

/// Most ids that an error names.
const MAX_NAMED: usize = 5;

/// The resources that a caveat permits. The zero id (0, or the empty text) stands for all; it
/// permits nothing beside other ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources<I: Ord>(pub BTreeMap<I, Action>);

impl<I: Ord + Default + Display> Resources<I> {
    /// These resources, all with the same actions.
    pub fn of(ids: impl IntoIterator<Item = I>, actions: Action) -> Self {
        Self(ids.into_iter().map(|id| (id, actions)).collect())
    }

    /// Whether `action` on the resource `id` is permitted. `kind` names it in the error.
    pub(crate) fn check<Q: ?Sized>(
        &self,
        id: Option<&Q>,
        action: Action,
        kind: &'static str,
        matches: impl Fn(&I, &Q) -> bool,
    ) -> Result<(), Denial> {
        let zero = I::default();
        if self.0.len() > 1 && self.0.contains_key(&zero) {
            return Err(Denial::Malformed("the zero id beside other ids"));
        }
        let Some(id) = id else { return Err(Denial::Unspecified(kind)) };
        let found = self.0.iter().filter(|(own, _)| **own == zero || matches(own, id));
        let permitted = found.map(|(_, actions)| *actions).reduce(|a, b| Action(a.0 & b.0));
        match permitted {
            None => Err(Denial::Resource { kind, only: self.named() }),
            Some(permitted) if action.is_within(permitted) => Ok(()),
            Some(permitted) => Err(Denial::Action { missing: action.without(permitted) }),
        }
    }

    fn named(&self) -> String {
        let ids: Vec<String> = self.0.keys().take(MAX_NAMED).map(ToString::to_string).collect();
        let more = if self.0.len() > MAX_NAMED { ", …" } else { "" };
        format!("{}{more}", ids.join(", "))
    }
}

impl<I: Ord + Display> Serialize for Resources<I> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(id, action)| (id.to_string(), action)))
    }
}

impl<'de, I: Ord + FromStr> Deserialize<'de> for Resources<I> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Numbers are keys of JSON as texts.
        let named = BTreeMap::<String, Action>::deserialize(from)?;
        let parsed = named.into_iter().map(|(id, action)| Some((id.parse().ok()?, action)));
        let parsed: Option<BTreeMap<I, Action>> = parsed.collect();
        parsed.map(Self).ok_or_else(|| D::Error::custom("an id is not a number"))
    }
}
