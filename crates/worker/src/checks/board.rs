//! The newest results of all checks of a host, for the API.
//!
//! Only a machine's monitor writes its entries. Bounds: the API allows a machine
//! a limited number of checks, and each entry keeps one run of a few KiB.

use super::spec::{CheckSpec, specs};
use model::check::{Progress, Status};
use model::id::{InstanceId, MachineId};
use rt::clock::rfc3339;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use wire::machines::{CheckReport, CheckRun, CheckStatus, MachineConfig};

/// The newest results of all checks of a host.
#[derive(Debug, Default)]
pub(crate) struct CheckBoard(Mutex<BTreeMap<MachineId, Checks>>);

#[derive(Debug)]
struct Checks {
    /// The version of the config that they are of.
    instance: InstanceId,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    spec: CheckSpec,
    progress: Progress,
    output: String,
    changed_ms: u64,
    last_run: Option<CheckRun>,
}

impl CheckBoard {
    /// The checks of a machine begin, or pause, without a verdict: `output` is the reason.
    pub(crate) fn reset(
        &self,
        id: MachineId,
        instance: InstanceId,
        specs: &[CheckSpec],
        (output, now_ms): (&str, u64),
    ) {
        let mut all = self.lock();
        if specs.is_empty() {
            all.remove(&id);
            return;
        }
        let earlier = all.remove(&id).map(|checks| checks.entries).unwrap_or_default();
        let entries = specs.iter().map(|spec| {
            let known = earlier.iter().find(|entry| entry.spec == *spec);
            // The status has not changed if it had no verdict before.
            let same = known.filter(|entry| entry.progress.status == Status::Warning);
            Entry {
                spec: spec.clone(),
                progress: Progress::UNPROVEN,
                output: output.to_owned(),
                changed_ms: same.map_or(now_ms, |entry| entry.changed_ms),
                last_run: known.and_then(|entry| entry.last_run.clone()),
            }
        });
        let entries = entries.collect();
        all.insert(id, Checks { instance, entries });
    }

    /// Check number `index` has run.
    pub(crate) fn record(
        &self,
        id: MachineId,
        index: usize,
        (progress, output): (Progress, String),
        (run, now_ms): (CheckRun, u64),
    ) {
        let mut all = self.lock();
        let Some(entry) = all.get_mut(&id).and_then(|checks| checks.entries.get_mut(index)) else {
            return;
        };
        if entry.progress.status != progress.status {
            entry.changed_ms = now_ms;
        }
        (entry.progress, entry.output, entry.last_run) = (progress, output, Some(run));
    }

    /// The statuses of a machine's checks, in order.
    pub(crate) fn statuses(&self, id: MachineId) -> Vec<Status> {
        let all = self.lock();
        let entries = all.get(&id).map(|checks| checks.entries.as_slice()).unwrap_or_default();
        entries.iter().map(|entry| entry.progress.status).collect()
    }

    /// The machine is gone.
    pub(crate) fn remove(&self, id: MachineId) {
        self.lock().remove(&id);
    }

    /// The checks of a machine in short; those of a config that its monitor has not seen
    /// yet have no verdict.
    pub(crate) fn shown(
        &self,
        id: MachineId,
        version: (InstanceId, &MachineConfig, u64),
    ) -> Vec<CheckStatus> {
        let short = |entry: &Entry| CheckStatus {
            name: entry.spec.name.clone(),
            status: entry.progress.status.as_str().into(),
            output: entry.output.clone(),
            updated_at: rfc3339(entry.changed_ms),
        };
        self.with(id, version, short)
    }

    /// The same in detail.
    pub(crate) fn reports(
        &self,
        id: MachineId,
        version: (InstanceId, &MachineConfig, u64),
    ) -> Vec<CheckReport> {
        let report = |entry: &Entry| CheckReport {
            name: entry.spec.name.clone(),
            kind: entry.spec.probe.kind().into(),
            purpose: entry.spec.purpose.as_str().into(),
            status: entry.progress.status.as_str().into(),
            output: entry.output.clone(),
            updated_at: rfc3339(entry.changed_ms),
            passes: entry.progress.passes,
            failures: entry.progress.failures,
            last_run: entry.last_run.clone(),
        };
        self.with(id, version, report)
    }

    fn with<T>(
        &self,
        id: MachineId,
        (instance, config, since_ms): (InstanceId, &MachineConfig, u64),
        show: impl Fn(&Entry) -> T,
    ) -> Vec<T> {
        if let Some(checks) = self.lock().get(&id).filter(|checks| checks.instance == instance) {
            return checks.entries.iter().map(show).collect();
        }
        let unproven = specs(config).into_iter().map(|spec| Entry {
            spec,
            progress: Progress::UNPROVEN,
            output: AWAITED.into(),
            changed_ms: since_ms,
            last_run: None,
        });
        unproven.map(|entry| show(&entry)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MachineId, Checks>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Output of a check that has not run since its machine started.
pub(crate) const AWAITED: &str = "waiting for status update";
/// Output of the checks of a machine that is down.
pub(crate) const NOT_STARTED: &str = "the machine hasn't started";
/// Output of the checks of a machine that is suspended.
pub(crate) const SUSPENDED: &str = "the machine is suspended";
