//! The ladder: KVM with one CPU model after the other, then emulation.

use crate::config::{Accelerator, CpuModel, QemuConfig};
use crate::guest_image::kernel::Kernel;
use crate::probe::boot_guest::{Attempt, boots};
use crate::probe::result::{Probed, cache_result, cached_result, kvm_pvm_is_loaded, open_kvm};
use camino::Utf8Path;
use std::time::Duration;
use worker::ports::PortError;

/// A stock kernel reaches user space within a second on working KVM.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// With `kvm_pvm` a kernel that was not made for it hangs at once, and one that was
/// boots within a second.
const PVM_DEADLINE: Duration = Duration::from_secs(3);

/// Finds accelerator and CPU model for VMs of `config` (whose own are not looked at),
/// or takes what was found earlier with this QEMU, kernel and start of the host from
/// `cache`.
///
/// # Errors
/// QEMU cannot be started at all, or `cache` or the VMs' directory cannot be
/// written. KVM that does not work is no error but an answer.
pub async fn probe(
    config: &QemuConfig,
    kernel: &Kernel,
    cache: &Utf8Path,
    deadline: Duration,
) -> Result<Probed, PortError> {
    if let Some(known) = cached_result(cache, &config.qemu, kernel) {
        return Ok(known);
    }
    let (probed, lasts) = match open_kvm() {
        Err(err) => (emulated(&format!("/dev/kvm cannot be opened: {err}"), Vec::new()), false),
        Ok(_) => {
            let pvm = kvm_pvm_is_loaded();
            let deadline = if pvm { deadline.min(PVM_DEADLINE) } else { deadline };
            let attempt = async |cpu_model| {
                let accelerator = Accelerator::Kvm;
                let config = QemuConfig { accelerator, cpu_model, ..config.clone() };
                boots(&config, cache, deadline).await
            };
            try_models(pvm, attempt).await?
        }
    };
    tracing::info!(found = probed.line(), failures = ?probed.failures, "accelerator probed");
    if lasts {
        cache_result(cache, &config.qemu, kernel, &probed)?;
    }
    Ok(probed)
}

/// The result where the operator has chosen the accelerator: the CPU model is found
/// out all the same.
///
/// # Errors
/// As of [`probe`].
pub async fn forced(
    accelerator: Accelerator,
    config: &QemuConfig,
    kernel: &Kernel,
    cache: &Utf8Path,
    deadline: Duration,
) -> Result<Probed, PortError> {
    if accelerator == Accelerator::Tcg {
        return Ok(Probed::new(accelerator, CpuModel::Plain, "it is set in the settings"));
    }
    let probed = probe(config, kernel, cache, deadline).await?;
    Ok(match probed.accelerator {
        Accelerator::Kvm => probed,
        Accelerator::Tcg => Probed {
            failures: probed.failures,
            ..Probed::new(
                accelerator,
                CpuModel::Host,
                "it is set in the settings, although no guest booted with it",
            )
        },
    })
}

/// Tries the models in their order. A guest that was started and stays silent has,
/// with `kvm_pvm`, a known reason that applies to every other model.
///
/// Returns also whether the result lasts: that a guest has booted, or that QEMU itself has
/// refused each model. A guest that was silent may only have been slow on a busy host.
async fn try_models(
    pvm: bool,
    mut attempt: impl AsyncFnMut(CpuModel) -> Result<Attempt, PortError>,
) -> Result<(Probed, bool), PortError> {
    let (mut failures, mut last, mut refused) = (Vec::new(), String::new(), true);
    for model in CpuModel::LADDER {
        let name = model.as_str();
        match attempt(model).await? {
            Attempt::Booted => {
                let reason = match model {
                    CpuModel::Host => format!("a guest booted, CPU model {name}"),
                    _ => format!("CPU model {name}, since none before it boots"),
                };
                let probed = Probed::new(Accelerator::Kvm, model, &reason);
                return Ok((Probed { failures, ..probed }, true));
            }
            Attempt::Silent if pvm => {
                failures.push(format!("{name}: the guest hangs"));
                let reason = "kvm_pvm is loaded: a stock kernel does not start with KVM";
                return Ok((emulated(reason, failures), true));
            }
            Attempt::Silent => (last, refused) = ("it never comes up".into(), false),
            Attempt::Failed(why) => last = why,
        }
        failures.push(format!("{name}: {last}"));
    }
    Ok((emulated(&format!("no guest boots with KVM: {last}"), failures), refused))
}

fn emulated(reason: &str, failures: Vec<String>) -> Probed {
    Probed { failures, ..Probed::new(Accelerator::Tcg, CpuModel::Plain, reason) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    /// The result for what each model does, in their order.
    async fn found(pvm: bool, attempts: [Attempt; 3]) -> String {
        let mut attempts = attempts.into_iter();
        let attempt = async |_| Ok(attempts.next().unwrap());
        let (probed, lasts) = try_models(pvm, attempt).await.unwrap();
        let left = attempts.count();
        let (line, model, failures) = (probed.line(), probed.cpu_model, probed.failures);
        format!("{line} {model:?} {failures:?} left {left} lasts {lasts}")
    }

    fn msr() -> Attempt {
        Attempt::Failed("failed to set MSR 0x10a".into())
    }

    #[tokio::test]
    async fn the_first_model_that_boots_is_taken() {
        use Attempt::{Booted, Silent};
        let mut text = String::new();
        for (pvm, attempts) in [
            (false, [Booted, Booted, Booted]),
            (false, [msr(), Booted, Booted]),
            (false, [msr(), Silent, Booted]),
            (false, [msr(), msr(), msr()]),
            (false, [Silent, Silent, Silent]),
            (false, [msr(), Silent, msr()]),
            (true, [msr(), Booted, Booted]),
            (true, [msr(), Silent, Booted]),
        ] {
            text.push_str(&format!("{}\n", found(pvm, attempts).await));
        }
        expect![[r#"
            kvm (a guest booted, CPU model host) Host [] left 2 lasts true
            kvm (CPU model host,-arch-capabilities, since none before it boots) HostWithoutArchCapabilities ["host: failed to set MSR 0x10a"] left 1 lasts true
            kvm (CPU model qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt, since none before it boots) Plain ["host: failed to set MSR 0x10a", "host,-arch-capabilities: it never comes up"] left 0 lasts true
            tcg (no guest boots with KVM: failed to set MSR 0x10a) Plain ["host: failed to set MSR 0x10a", "host,-arch-capabilities: failed to set MSR 0x10a", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt: failed to set MSR 0x10a"] left 0 lasts true
            tcg (no guest boots with KVM: it never comes up) Plain ["host: it never comes up", "host,-arch-capabilities: it never comes up", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt: it never comes up"] left 0 lasts false
            tcg (no guest boots with KVM: failed to set MSR 0x10a) Plain ["host: failed to set MSR 0x10a", "host,-arch-capabilities: it never comes up", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt: failed to set MSR 0x10a"] left 0 lasts false
            kvm (CPU model host,-arch-capabilities, since none before it boots) HostWithoutArchCapabilities ["host: failed to set MSR 0x10a"] left 1 lasts true
            tcg (kvm_pvm is loaded: a stock kernel does not start with KVM) Plain ["host: failed to set MSR 0x10a", "host,-arch-capabilities: the guest hangs"] left 1 lasts true
        "#]].assert_eq(&text);
    }
}
