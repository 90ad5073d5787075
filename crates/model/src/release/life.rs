//! The life of a release as one table.
//!
//! The client that carries a release out reports its status. The table is total: every pair of a status and
//! a reported one either leads to the reported one or is refused, and a test prints it whole.

use std::fmt;

/// How far a release is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Recorded, not begun.
    Pending,
    /// Machines are being changed.
    Running,
    /// All machines are of this release.
    Complete,
    /// It could not be carried out.
    Failed,
    /// Its client was stopped while it carried the release out.
    Interrupted,
    /// The machines are of an earlier release again.
    RolledBack,
}

/// A change of the status that the table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a release that is {from} cannot become {to}")]
pub struct Refused {
    /// Its status.
    pub from: Status,
    /// The status that is refused.
    pub to: Status,
}

impl Status {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Running,
        Self::Complete,
        Self::Failed,
        Self::Interrupted,
        Self::RolledBack,
    ];

    /// The status after `to` has been reported. The present one may be reported again: a client
    /// repeats a report whose answer it has not received.
    ///
    /// # Errors
    /// It cannot become that.
    pub fn after(self, to: Self) -> Result<Self, Refused> {
        use Status::*;
        Ok(match (self, to) {
            // One that ends before anything was changed need not have been running.
            (Pending, Pending | Running | Complete | Failed | Interrupted) => to,
            (Running, Running | Complete | Failed | Interrupted | RolledBack) => to,
            // What a failure has left is taken back later.
            (Failed, Failed | RolledBack) => to,
            (Interrupted, Interrupted | RolledBack) => to,
            // Later changes are those of later releases.
            (Complete, Complete) => to,
            (RolledBack, RolledBack) => to,
            (Pending, RolledBack)
            | (Running, Pending)
            | (Failed, Pending | Running | Complete | Interrupted)
            | (Interrupted, Pending | Running | Complete | Failed)
            | (Complete, Pending | Running | Failed | Interrupted | RolledBack)
            | (RolledBack, Pending | Running | Complete | Failed | Interrupted) => {
                return Err(Refused { from: self, to });
            }
        })
    }

    /// It is still to be carried out, or being carried out.
    pub fn is_in_progress(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }

    /// The API's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::RolledBack => "rolled_back",
        }
    }

    /// The status with that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect_file;
    use std::fmt::Write;

    #[test]
    fn the_whole_table() {
        let mut table = String::new();
        for from in Status::ALL {
            for to in Status::ALL {
                let after = from.after(to).map_or("-", Status::as_str);
                writeln!(table, "{from:<11} {to:<11} -> {after}").unwrap();
            }
            table.push('\n');
        }
        expect_file!["life.table.txt"].assert_eq(&table);
    }

    #[test]
    fn a_report_may_be_repeated_and_what_has_ended_is_not_begun_again() {
        for status in Status::ALL {
            assert_eq!(status.after(status), Ok(status));
            assert_eq!(Status::parse(status.as_str()), Some(status));
            let begins = [Status::Pending, Status::Running].map(|to| status.after(to).is_ok());
            assert!(status.is_in_progress() || begins == [false, false], "{status}");
        }
        assert_eq!(Status::parse("done"), None);
    }
}
