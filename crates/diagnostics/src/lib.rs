//! What an adapter finds out about the host, for `doctor`.

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Name of the check, one or two words.
    pub name: &'static str,
    /// How it is.
    pub finding: Finding,
    /// Short description of the finding.
    pub found: String,
    /// What to do about it; empty if nothing.
    pub remedy: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// As it should be.
    Good,
    /// It works, but worse than it could, or the daemon will see to it.
    Weak,
    /// Machines cannot run, or not reach what they should.
    Broken,
}

impl Check {
    /// As it should be.
    pub fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, finding: Finding::Good, found: found.into(), remedy: String::new() }
    }

    /// Works, but worse than it could.
    pub fn weak(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, finding: Finding::Weak, found: found.into(), remedy: remedy.into() }
    }

    /// Does not work.
    pub fn broken(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { finding: Finding::Broken, ..Self::weak(name, found, remedy) }
    }
}
