//! Memory of fake VMs that is kept: snapshots and templates.

use super::FakeHypervisor;
use crate::guest::{Control, State};
use camino::{Utf8Path, Utf8PathBuf};
use model::id::{BootId, MachineId};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use worker::ports::{
    BootOrigin, BootSpec, PortError, QuiesceGuest, SaveTimes, Shape, Snapshot, SnapshotSpec,
};

/// The last file of a snapshot; without it there is none.
fn manifest(dir: &Utf8Path) -> Utf8PathBuf {
    dir.join("manifest.json")
}

pub(super) fn read(dir: &Utf8Path) -> Option<Snapshot> {
    let text = std::fs::read_to_string(manifest(dir)).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    let boot = value["boot"].as_str()?.parse().ok()?;
    Some(Snapshot { boot, note: value["note"].as_str()?.to_owned() })
}

fn write(to: &SnapshotSpec, boot: BootId) -> std::io::Result<()> {
    let value = serde_json::json!({ "boot": boot.to_string(), "note": to.note });
    let bytes = value.to_string().into_bytes();
    rt::fs::write_atomic(manifest(&to.dir).as_std_path(), &bytes, 0o600)
}

impl FakeHypervisor {
    /// How a boot begins: with whose memory, if with any.
    pub(super) fn origin(&self, spec: &BootSpec) -> Result<(Option<State>, BootOrigin), PortError> {
        if let Some(dir) = &spec.snapshot {
            let refused = || PortError::plain("the snapshot does not fit");
            let snapshot = read(dir).ok_or_else(refused)?;
            let ram = std::fs::read_to_string(dir.join("ram")).unwrap_or_default();
            let host = self.lock();
            let memory = host.saved.get(&snapshot.boot).filter(|_| ram == "ram");
            return Ok((Some(memory.cloned().ok_or_else(refused)?), BootOrigin::Snapshot));
        }
        if let Some(why) = &spec.cold {
            return Ok((None, BootOrigin::Cold(why.clone())));
        }
        let shape = Shape { vcpus: spec.vcpus, memory_mib: spec.memory_mib };
        let template = self.0.templates.borrow().contains(&shape);
        Ok(match (template, spec.kernel_args.is_empty()) {
            (true, true) => (None, BootOrigin::Template),
            (true, false) => (None, BootOrigin::Cold("it has kernel arguments of its own".into())),
            (false, _) => (None, BootOrigin::Cold("no template yet".into())),
        })
    }

    pub(super) async fn save(
        &self,
        machine: MachineId,
        boot: BootId,
        to: SnapshotSpec,
        cancel: CancellationToken,
    ) -> Result<SaveTimes, PortError> {
        let points = &self.0.points;
        points.pass("vm: before suspend").await;
        let cancelled = || PortError::plain("the suspend was cancelled");
        let mut open = self.0.open.subscribe();
        let held = cancel.run_until_cancelled(open.wait_for(|open| *open)).await;
        held.ok_or_else(cancelled)?.map_err(|err| PortError::new("wait", err))?;
        let failed = |err| PortError::new(format!("write snapshot {}", to.dir), err);
        std::fs::create_dir_all(&to.dir).map_err(failed)?;
        // The earlier snapshot is unusable from the first byte on.
        let _ = std::fs::remove_file(manifest(&to.dir));
        let (sender, state) = oneshot::channel();
        self.control(machine, boot, Control::Pause(sender))?;
        points.pass("vm: paused").await;
        let state = state.await.map_err(|_| PortError::plain("the VM has ended"))?;
        let fault = self.lock().suspend_faults.pop_front();
        let written = match fault {
            Some(fault) => Err(fault.error("no space left on device")),
            None if cancel.is_cancelled() => Err(cancelled()),
            None => std::fs::write(to.dir.join("ram"), "ram").map_err(failed),
        };
        if let Err(err) = written {
            self.control(machine, boot, Control::Resume)?;
            // There is no snapshot after an error.
            let _ = std::fs::remove_dir_all(&to.dir);
            return Err(err);
        }
        self.lock().saved.insert(boot, state);
        points.pass("vm: saved, manifest missing").await;
        write(&to, boot).map_err(failed)?;
        points.pass("vm: after suspend").await;
        Ok(SaveTimes { prepare_ms: 1.0, save_ms: 2.0, sync_ms: 3.0, written_mib: 4.0 })
    }

    /// Makes a template, talking to a guest of no machine.
    pub(super) async fn build_template(
        &self,
        shape: Shape,
        quiesce: QuiesceGuest,
    ) -> Result<(), PortError> {
        self.0.points.pass("vm: before template").await;
        if self.0.templates.borrow().contains(&shape) {
            return Ok(());
        }
        let fault = self.lock().template_faults.pop_front();
        if let Some(fault) = fault {
            return Err(fault.error("the guest of a template does not come up"));
        }
        let vm = self.start(false, None, None);
        // Ended with this call, however it ends: a template leaves no VM.
        let _end = vm.kill.clone().drop_guard();
        let (ours, theirs) = tokio::io::duplex(super::PORT_BUFFER);
        let _ = vm.ports.send(theirs);
        quiesce(Box::new(ours)).await?;
        self.add_template(shape);
        self.0.points.pass("vm: after template").await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::Fault;
    use std::sync::Arc;
    use worker::ports::Hypervisor;

    #[tokio::test]
    async fn a_transient_fault_of_a_template_differs_from_a_final_one() {
        let hypervisor = FakeHypervisor::new(crate::crash::CrashPoints::default());
        hypervisor.fail_templates([Fault::Transient, Fault::Final]);
        let shape = Shape { vcpus: 1, memory_mib: 256 };
        for transient in [true, false] {
            let quiesce: QuiesceGuest = Arc::new(|_port| Box::pin(async { Ok(()) }));
            let err = hypervisor.make_template(shape, quiesce).await.unwrap_err();
            assert_eq!(err.transient, transient, "{err}");
        }
    }
}
