//! What is done to a resource.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A set of actions, written as letters: `r` read, `w` write, `c` create, `d` delete and
/// `C` control (start, stop, signal). A caveat permits a set; a request needs one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Action(pub u16);

impl Action {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Read attributes.
    pub const READ: Self = Self(1);
    /// Change attributes.
    pub const WRITE: Self = Self(2);
    /// Make the resource, or one below it.
    pub const CREATE: Self = Self(4);
    /// Delete the resource.
    pub const DELETE: Self = Self(8);
    /// Change the state of the resource and none of its attributes, as a start does.
    pub const CONTROL: Self = Self(16);
    /// All of the above.
    pub const ALL: Self = Self(31);

    /// The letters and words of the actions, in the order in which they are written.
    const WORDS: [(Self, char, &'static str); 5] = [
        (Self::READ, 'r', "read"),
        (Self::WRITE, 'w', "write"),
        (Self::CREATE, 'c', "create"),
        (Self::DELETE, 'd', "delete"),
        (Self::CONTROL, 'C', "control"),
    ];

    /// The actions of both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The actions that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of these actions are in `other`.
    pub const fn is_within(self, other: Self) -> bool {
        self.0 & other.0 == self.0
    }

    /// The actions of a text of letters; `*` is every action. `None` for a text with another
    /// letter.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self(u16::MAX));
        }
        text.chars().try_fold(Self::NONE, |set, letter| {
            let known = Self::WORDS.iter().find(|(_, known, _)| *known == letter);
            known.map(|(action, ..)| set.and(*action))
        })
    }

    /// The actions in words, such as `read, control`.
    pub fn words(self) -> String {
        let within = Self::WORDS.iter().filter(|(action, ..)| action.is_within(self));
        within.map(|(.., word)| *word).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut within = Self::WORDS.iter().filter(|(action, ..)| action.is_within(*self));
        within.try_for_each(|(_, letter, _)| write!(f, "{letter}"))
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let why = "actions are letters of rwcdC, or *";
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_words() {
        let some = Action::READ.and(Action::CONTROL);
        assert_eq!((some.to_string(), some.words()), ("rC".into(), "read, control".into()));
        assert_eq!(Action::parse("Cr"), Some(some));
        assert_eq!(Action::parse("rwcdC"), Some(Action::ALL));
        assert_eq!(Action::parse(""), Some(Action::NONE));
        assert_eq!(Action::parse("rx"), None);
        assert!(Action::ALL.is_within(Action::parse("*").unwrap()));
        assert_eq!(Action::ALL.without(Action::READ).to_string(), "wcdC");
    }
}
