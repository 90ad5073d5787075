//! The life of a volume as one table.
//!
//! The table is total: every pair of a state and an event either leads to a state or is
//! refused, and a test prints it whole.

use std::fmt;

/// What a volume is. The words are those of the API
/// (<https://fly.io/docs/volumes/volume-states/>).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Recorded; its disk is being made.
    Creating,
    /// It has its disk, and a machine can use it.
    Created,
    /// It is of no more use; its disk is being removed.
    PendingDestroy,
}

/// What happens to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its disk is on stable storage.
    Made,
    /// A machine is to use it.
    Attach,
    /// It is to be larger.
    Extend,
    /// It is to be removed, with everything on it.
    Destroy,
}

/// An event that the table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a volume that is {from} cannot {event}")]
pub struct Refused {
    /// Its state.
    pub from: State,
    /// The event that is refused.
    pub event: Event,
}

impl State {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 3] = [Self::Creating, Self::Created, Self::PendingDestroy];

    /// The state after an event.
    ///
    /// # Errors
    /// The table does not have the event in this state.
    pub fn after(self, event: Event) -> Result<Self, Refused> {
        use {Event::*, State::*};
        Ok(match (self, event) {
            (Creating, Made) => Created,
            (Created, Attach | Extend) => Created,
            // A create that failed is taken back; a removal may be asked for again.
            (Creating | Created | PendingDestroy, Destroy) => PendingDestroy,
            (Creating, Attach | Extend)
            | (Created, Made)
            | (PendingDestroy, Made | Attach | Extend) => {
                return Err(Refused { from: self, event });
            }
        })
    }

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::PendingDestroy => "pending_destroy",
        }
    }

    /// The state of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Made, Self::Attach, Self::Extend, Self::Destroy];
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Made => "be made",
            Self::Attach => "be attached",
            Self::Extend => "be extended",
            Self::Destroy => "be destroyed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_whole_table() {
        let mut table = String::new();
        for from in State::ALL {
            for event in Event::ALL {
                let to = from.after(event).map_or("refused", State::as_str);
                table.push_str(&format!("{from:<16} {:<10} {to}\n", format!("{event:?}")));
            }
        }
        expect![[r#"
            creating         Made       created
            creating         Attach     refused
            creating         Extend     refused
            creating         Destroy    pending_destroy
            created          Made       refused
            created          Attach     created
            created          Extend     created
            created          Destroy    pending_destroy
            pending_destroy  Made       refused
            pending_destroy  Attach     refused
            pending_destroy  Extend     refused
            pending_destroy  Destroy    pending_destroy
        "#]]
        .assert_eq(&table);
        let refused = State::Creating.after(Event::Attach).unwrap_err();
        assert_eq!(refused.to_string(), "a volume that is creating cannot be attached");
        assert!(State::ALL.into_iter().all(|state| State::parse(state.as_str()) == Some(state)));
    }
}
