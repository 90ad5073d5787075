//! The command line of QEMU and of the guest's kernel. Pure.

use crate::config::{Accelerator, CpuModel};
use crate::jail::spec::{Fd, INITRAMFS, VMLINUZ};
use crate::monitor::console::CONSOLE_BYTES;
use worker::ports::PortError;

/// Translated code that emulation keeps. QEMU's own default is a gigabyte.
pub(crate) const TB_MIB: u32 = 64;

/// Longest command line of an x86 kernel (`COMMAND_LINE_SIZE`), with its NUL.
const CMDLINE_MAX: usize = 2048;

/// The inputs of the command line.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Shown in the process list, and what a VM is recognised by.
    pub(crate) name: String,
    pub(crate) accelerator: Accelerator,
    pub(crate) cpu_model: CpuModel,
    pub(crate) vcpus: u32,
    pub(crate) memory_mib: u32,
    /// The card is always there, so that machines with and without a network
    /// are alike; without an address it leads nowhere.
    pub(crate) mac: Option<[u8; 6]>,
    /// How many images it has beside its root.
    pub(crate) images: u8,
    /// How many volumes it has.
    pub(crate) volumes: u8,
    pub(crate) start: StartFrom,
}

/// How the guest starts.
#[derive(Clone, Debug)]
pub(crate) enum StartFrom {
    /// The kernel boots, in memory of the VM's own.
    Kernel {
        /// Words added to its command line.
        args: Vec<String>,
        /// Frequency of the host's TSC as the kernel sees it, if known.
        tsc_khz: Option<u64>,
    },
    /// Memory and device state are there: pages are copied when written to.
    Saved,
}

/// Changes when a saved state of an earlier version cannot be loaded any more:
/// devices, their order, the layout of memory.
pub(crate) const LAYOUT: u32 = 1;

/// The processor that guests see.
pub(crate) fn cpu(accelerator: Accelerator, model: CpuModel) -> &'static str {
    match accelerator {
        Accelerator::Kvm => model.as_str(),
        Accelerator::Tcg => CpuModel::Plain.as_str(),
    }
}

/// Arguments for QEMU, without its name.
pub(crate) fn qemu(machine: &Machine) -> Result<Vec<String>, PortError> {
    let accel = match machine.accelerator {
        Accelerator::Kvm => "kvm".to_owned(),
        Accelerator::Tcg => format!("tcg,thread=multi,tb-size={TB_MIB}"),
    };
    let saved = matches!(machine.start, StartFrom::Saved);
    let mut args = Args::default();
    args.flag("-nodefaults").flag("-no-user-config");
    args.pair("-name", format!("updraft-{}", machine.name));
    args.pair("-display", "none");
    // A device state as we save it has no description of itself behind it.
    let described = if saved { ",suppress-vmdesc=on" } else { "" };
    let board = format!("microvm,acpi=on,rtc=on,isa-serial=on,memory-backend=ram{described}");
    args.pair("-M", board);
    args.pair("-accel", accel).pair("-cpu", cpu(machine.accelerator, machine.cpu_model));
    args.pair("-smp", machine.vcpus.to_string()).pair("-m", machine.memory_mib.to_string());
    args.memory(machine.memory_mib, !saved);
    args.pair(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    );
    // A guest that has ended stays, halted, until the daemon has read its console.
    args.pair("-action", "reboot=shutdown,shutdown=pause");
    args.start_from(machine)?;
    args.pair("-chardev", format!("socket,id=qmp,fd={},server=on,wait=off", Fd::Qmp.number()));
    args.pair("-mon", "chardev=qmp,mode=control");
    args.pair("-chardev", format!("ringbuf,id=console,size={CONSOLE_BYTES}"));
    args.pair("-serial", "chardev:console");
    args.device("virtio-serial-device");
    args.pair("-chardev", format!("socket,id=agent,fd={},server=on,wait=off", Fd::Agent.number()));
    args.device("virtserialport,chardev=agent,name=updraft.agent");
    args.disk("root", Fd::Root, "read-only=on");
    args.disk("scratch", Fd::Scratch, "discard=unmap,detect-zeroes=unmap");
    match machine.mac {
        Some(mac) => {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            args.pair("-netdev", format!("tap,id=net,fd={}", Fd::Tap.number()));
            args.device(&format!("virtio-net-device,netdev=net,mac={mac}"));
        }
        None => {
            args.device("virtio-net-device");
        }
    }
    args.pair("-object", "rng-builtin,id=rng").device("virtio-rng-device,rng=rng");
    // Behind all others, so that the devices of machines without them are alike.
    for image in 0..machine.images {
        args.disk(&format!("image{image}"), Fd::Image(image), "read-only=on");
    }
    for volume in 0..machine.volumes {
        let options = "discard=unmap,detect-zeroes=unmap";
        args.disk(&format!("volume{volume}"), Fd::Volume(volume), options);
    }
    Ok(args.0)
}

/// Kernel parameters of every guest; a template is made with the same ones.
pub(crate) fn kernel_words(accelerator: Accelerator) -> Vec<&'static str> {
    // `panic=-1`: a panic ends the VM at once instead of looping endlessly, and
    // by triple fault: the kernel's other ways were seen to hang after a panic.
    // No guest has a profile for the security module or a reader of the audit log.
    let mut words = vec!["console=ttyS0", "quiet", "panic=-1", "reboot=t", "apparmor=0", "audit=0"];
    if accelerator == Accelerator::Tcg {
        // The watchdog is not to find the TSC unstable in a guest that is restored,
        // which then would have a clock of 4 ms. Mitigations are against a processor
        // that guesses, which the translator does not, and cost it most of all.
        words.extend(["tsc=reliable", "mitigations=off"]);
    }
    words
}

/// The kernel's command line.
fn cmdline(
    accelerator: Accelerator,
    extra: &[String],
    tsc_khz: Option<u64>,
) -> Result<String, PortError> {
    let mut words: Vec<String> = kernel_words(accelerator).into_iter().map(str::to_owned).collect();
    if let (Accelerator::Tcg, Some(khz)) = (accelerator, tsc_khz) {
        // Without it about one emulated boot in twelve hangs on a busy host.
        words.push(format!("tsc_early_khz={khz}"));
    }
    for word in extra {
        if word.is_empty() || !word.bytes().all(|b| b.is_ascii_graphic() && b != b'"') {
            let problem = "not one word of visible ASCII characters without quotes";
            return Err(PortError::plain(format!(
                "kernel argument {word:?} is refused: {problem}"
            )));
        }
        words.push(word.clone());
    }
    let line = words.join(" ");
    if line.len() >= CMDLINE_MAX {
        let problem =
            format!("kernel arguments make {} bytes, {CMDLINE_MAX} are too many", line.len());
        return Err(PortError::plain(problem));
    }
    Ok(line)
}

/// `cpu MHz` of the first processor in `/proc/cpuinfo`, in kHz.
pub(crate) fn tsc_khz(cpuinfo: &str) -> Option<u64> {
    let line = cpuinfo.lines().find(|line| line.starts_with("cpu MHz"))?;
    let mhz: f64 = line.split_once(':')?.1.trim().parse().ok()?;
    (mhz > 1.0).then_some((mhz * 1000.0) as u64)
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    fn pair(&mut self, flag: &str, value: impl Into<String>) -> &mut Self {
        self.0.extend([flag.into(), value.into()]);
        self
    }

    fn device(&mut self, value: &str) -> &mut Self {
        self.pair("-device", value)
    }

    /// The guest's memory, in a file that the VM was handed. `own`: no other VM
    /// has it, so it is mapped shared.
    fn memory(&mut self, mib: u32, own: bool) {
        let (share, fd) = (if own { "on" } else { "off" }, Fd::Ram.number());
        let file = format!("memory-backend-file,id=ram,size={mib}M,mem-path=/proc/self/fd/{fd}");
        self.pair("-object", format!("{file},share={share}"));
    }

    fn start_from(&mut self, machine: &Machine) -> Result<(), PortError> {
        match &machine.start {
            StartFrom::Kernel { args, tsc_khz } => {
                self.pair("-kernel", VMLINUZ).pair("-initrd", INITRAMFS);
                self.pair("-append", cmdline(machine.accelerator, args, *tsc_khz)?);
            }
            StartFrom::Saved => {
                self.pair("-incoming", format!("fd:{}", Fd::State.number()));
                self.pair("-global", "migration.send-configuration=off");
                self.pair("-global", "migration.x-events=on");
            }
        }
        // Started paused: the guest runs only after its VM is in the jail and in its cgroups.
        self.flag("-S");
        Ok(())
    }

    /// A disk on an inherited descriptor: no path of it exists in the jail. The
    /// image belongs to one VM or is read-only, so it needs no lock.
    fn disk(&mut self, name: &str, fd: Fd, options: &str) -> &mut Self {
        let fd = fd.number();
        self.pair("-add-fd", format!("set={fd},fd={fd}"));
        let file = format!("driver=file,node-name={name},filename=/dev/fdset/{fd},locking=off");
        self.pair("-blockdev", format!("{file},{options}"));
        // Reported to the guest, as a disk would; QEMU would halt it if the host's is full.
        self.device(&format!("virtio-blk-device,drive={name},werror=report,rerror=report"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn machine() -> Machine {
        Machine {
            name: "00000000000001-01J".into(),
            accelerator: Accelerator::Tcg,
            cpu_model: CpuModel::default(),
            vcpus: 2,
            memory_mib: 256,
            mac: Some([2, 0, 0, 0, 0, 0xa1]),
            images: 0,
            volumes: 0,
            start: StartFrom::Kernel { args: vec!["updraft.x=1".into()], tsc_khz: Some(2_596_120) },
        }
    }

    fn lines(args: &[String]) -> String {
        let mut text = String::new();
        for arg in args {
            text.push_str(if arg.starts_with('-') { "\n" } else { " " });
            text.push_str(arg);
        }
        text.trim_start().to_owned()
    }

    #[test]
    fn the_command_line_of_an_emulated_vm() {
        let args = qemu(&machine()).unwrap();
        expect![[r#"
            -nodefaults
            -no-user-config
            -name updraft-00000000000001-01J
            -display none
            -M microvm,acpi=on,rtc=on,isa-serial=on,memory-backend=ram
            -accel tcg,thread=multi,tb-size=64
            -cpu qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt
            -smp 2
            -m 256
            -object memory-backend-file,id=ram,size=256M,mem-path=/proc/self/fd/9,share=on
            -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
            -action reboot=shutdown,shutdown=pause
            -kernel /vm/vmlinuz
            -initrd /vm/initramfs
            -append console=ttyS0 quiet panic=-1 reboot=t apparmor=0 audit=0 tsc=reliable mitigations=off tsc_early_khz=2596120 updraft.x=1
            -S
            -chardev socket,id=qmp,fd=4,server=on,wait=off
            -mon chardev=qmp,mode=control
            -chardev ringbuf,id=console,size=65536
            -serial chardev:console
            -device virtio-serial-device
            -chardev socket,id=agent,fd=3,server=on,wait=off
            -device virtserialport,chardev=agent,name=updraft.agent
            -add-fd set=5,fd=5
            -blockdev driver=file,node-name=root,filename=/dev/fdset/5,locking=off,read-only=on
            -device virtio-blk-device,drive=root,werror=report,rerror=report
            -add-fd set=6,fd=6
            -blockdev driver=file,node-name=scratch,filename=/dev/fdset/6,locking=off,discard=unmap,detect-zeroes=unmap
            -device virtio-blk-device,drive=scratch,werror=report,rerror=report
            -netdev tap,id=net,fd=8
            -device virtio-net-device,netdev=net,mac=02:00:00:00:00:a1
            -object rng-builtin,id=rng
            -device virtio-rng-device,rng=rng"#]].assert_eq(&lines(&args));
    }

    #[test]
    fn a_saved_guest_finds_the_same_devices_and_no_kernel() {
        let booted = lines(&qemu(&machine()).unwrap());
        let saved = Machine { start: StartFrom::Saved, ..machine() };
        let saved = lines(&qemu(&saved).unwrap());
        let only = |of: &str, not: &str| {
            let lines = of.lines().filter(|line| !not.lines().any(|other| other == *line));
            lines.map(|line| format!("{line}\n")).collect::<String>()
        };
        expect![[r#"
            -M microvm,acpi=on,rtc=on,isa-serial=on,memory-backend=ram,suppress-vmdesc=on
            -object memory-backend-file,id=ram,size=256M,mem-path=/proc/self/fd/9,share=off
            -incoming fd:10
            -global migration.send-configuration=off
            -global migration.x-events=on
        "#]]
        .assert_eq(&only(&saved, &booted));
        expect![[r#"
            -M microvm,acpi=on,rtc=on,isa-serial=on,memory-backend=ram
            -object memory-backend-file,id=ram,size=256M,mem-path=/proc/self/fd/9,share=on
            -kernel /vm/vmlinuz
            -initrd /vm/initramfs
            -append console=ttyS0 quiet panic=-1 reboot=t apparmor=0 audit=0 tsc=reliable mitigations=off tsc_early_khz=2596120 updraft.x=1
        "#]]
        .assert_eq(&only(&booted, &saved));
    }

    #[test]
    fn further_images_come_last() {
        let without = lines(&qemu(&machine()).unwrap());
        let with = lines(&qemu(&Machine { images: 2, ..machine() }).unwrap());
        let more = with.strip_prefix(&without).unwrap();
        expect![[r#"

            -add-fd set=11,fd=11
            -blockdev driver=file,node-name=image0,filename=/dev/fdset/11,locking=off,read-only=on
            -device virtio-blk-device,drive=image0,werror=report,rerror=report
            -add-fd set=12,fd=12
            -blockdev driver=file,node-name=image1,filename=/dev/fdset/12,locking=off,read-only=on
            -device virtio-blk-device,drive=image1,werror=report,rerror=report"#]]
        .assert_eq(more);
    }

    #[test]
    fn volumes_come_behind_the_images_and_can_be_written_to() {
        let without = lines(&qemu(&Machine { images: 1, ..machine() }).unwrap());
        let with = lines(&qemu(&Machine { images: 1, volumes: 2, ..machine() }).unwrap());
        let more = with.strip_prefix(&without).unwrap();
        expect![[r#"

            -add-fd set=32,fd=32
            -blockdev driver=file,node-name=volume0,filename=/dev/fdset/32,locking=off,discard=unmap,detect-zeroes=unmap
            -device virtio-blk-device,drive=volume0,werror=report,rerror=report
            -add-fd set=33,fd=33
            -blockdev driver=file,node-name=volume1,filename=/dev/fdset/33,locking=off,discard=unmap,detect-zeroes=unmap
            -device virtio-blk-device,drive=volume1,werror=report,rerror=report"#]]
        .assert_eq(more);
    }

    #[test]
    fn kvm_takes_the_hosts_cpu_and_no_clock_hint() {
        let kvm = Machine { accelerator: Accelerator::Kvm, mac: None, ..machine() };
        let text = qemu(&kvm).unwrap().join(" ");
        assert!(text.contains("-accel kvm -cpu host -smp"), "{text}");
        assert!(!text.contains("tsc_early") && !text.contains("-netdev"), "{text}");
    }

    #[test]
    fn kvm_takes_the_model_that_was_found_to_work() {
        let cpu_model = CpuModel::HostWithoutArchCapabilities;
        let kvm = Machine { accelerator: Accelerator::Kvm, cpu_model, ..machine() };
        let text = qemu(&kvm).unwrap().join(" ");
        assert!(text.contains("-accel kvm -cpu host,-arch-capabilities -smp"), "{text}");
    }

    #[test]
    fn kernel_arguments_that_are_refused() {
        for bad in ["", "a b", "a\tb", "a\"b", "ä", "a\0", &"x".repeat(2048)] {
            let start = StartFrom::Kernel { args: vec![bad.into()], tsc_khz: None };
            assert!(qemu(&Machine { start, ..machine() }).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_clock_from_cpuinfo() {
        assert_eq!(tsc_khz("processor\t: 0\ncpu MHz\t\t: 2596.120\n"), Some(2_596_120));
        assert_eq!(tsc_khz("processor\t: 0\n"), None);
    }
}
