//! Why a request is answered by the edge itself.

use crate::http::code::Code;
use model::id::MachineId;

/// Why a request got an answer of the edge itself.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) detail: String,
    pub(crate) app: Option<String>,
    pub(crate) machine: Option<MachineId>,
}

impl Failure {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), app: None, machine: None }
    }

    pub(crate) fn of_app(mut self, app: &str) -> Self {
        self.app.get_or_insert_with(|| app.to_owned());
        self
    }

    pub(crate) fn on(mut self, machine: MachineId) -> Self {
        self.machine = Some(machine);
        self
    }

    /// The line for the app's log.
    pub(crate) fn line(&self) -> String {
        format!("[{}] {}", self.code.text(), self.detail)
    }
}
