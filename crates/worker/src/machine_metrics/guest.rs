//! Counters of a guest's kernel, from the files of its `/proc` (proc(5)). A line that is
//! not as expected is left out.

use super::families::{Families, Labels, label};
use guest_protocol::GuestStats;

/// Entries of one file that are looked at: CPUs, disks, network devices, file systems.
const MAX_ENTRIES: usize = 64;
/// Longest name of a device or path of a mount.
const MAX_NAME: usize = 128;

const CPU_MODES: [&str; 10] =
    ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice"];
const MEMORY: [(&str, &str); 17] = [
    ("MemTotal", "mem_total"),
    ("MemFree", "mem_free"),
    ("MemAvailable", "mem_available"),
    ("Buffers", "buffers"),
    ("Cached", "cached"),
    ("SwapCached", "swap_cached"),
    ("Active", "active"),
    ("Inactive", "inactive"),
    ("SwapTotal", "swap_total"),
    ("SwapFree", "swap_free"),
    ("Dirty", "dirty"),
    ("Writeback", "writeback"),
    ("Slab", "slab"),
    ("Shmem", "shmem"),
    ("VmallocTotal", "vmalloc_total"),
    ("VmallocUsed", "vmalloc_used"),
    ("VmallocChunk", "vmalloc_chunk"),
];
const DISK: [&str; 11] = [
    "reads_completed",
    "reads_merged",
    "sectors_read",
    "time_reading",
    "writes_completed",
    "writes_merged",
    "sectors_written",
    "time_writing",
    "io_in_progress",
    "time_io",
    "time_io_weighted",
];
const NET: [&str; 16] = [
    "recv_bytes",
    "recv_packets",
    "recv_errs",
    "recv_drop",
    "recv_fifo",
    "recv_frame",
    "recv_compressed",
    "recv_multicast",
    "sent_bytes",
    "sent_packets",
    "sent_errs",
    "sent_drop",
    "sent_fifo",
    "sent_colls",
    "sent_carrier",
    "sent_compressed",
];

/// Adds the samples of one guest, with the labels of its machine.
pub(super) fn add(families: &mut Families, machine: &Labels, stats: &GuestStats) {
    load(families, machine, &stats.loadavg);
    cpu(families, machine, &stats.stat);
    memory(families, machine, &stats.meminfo);
    disks(families, machine, &stats.diskstats);
    network(families, machine, &stats.net_dev);
    files(families, machine, &stats.file_nr);
    for fs in stats.filesystems.iter().take(MAX_ENTRIES) {
        let Some(mount) = named(&fs.mount) else { continue };
        let own = [label("mount", mount)];
        for (name, value) in [
            ("blocks", fs.blocks),
            ("block_size", fs.block_size),
            ("blocks_free", fs.blocks_free),
            ("blocks_avail", fs.blocks_avail),
        ] {
            let family = format!("fly_instance_filesystem_{name}");
            families.add(&family, &[machine, &own], &value.to_string());
        }
    }
}

/// A number as the kernel writes it.
fn number(word: &str) -> Option<u64> {
    word.parse().ok()
}

fn named(name: &str) -> Option<&str> {
    let plain = name.len() <= MAX_NAME && !name.chars().any(char::is_control);
    (plain && !name.is_empty()).then_some(name)
}

fn load(families: &mut Families, machine: &Labels, text: &str) {
    for (minutes, word) in ["1", "5", "15"].iter().zip(text.split_ascii_whitespace()) {
        if let Some(load) = word.parse::<f64>().ok().filter(|load| load.is_finite()) {
            let own = [label("minutes", minutes)];
            families.add("fly_instance_load_average", &[machine, &own], &load.to_string());
        }
    }
}

/// Hundredths of a second by CPU and mode.
fn cpu(families: &mut Families, machine: &Labels, text: &str) {
    let cpus = text.lines().filter_map(|line| {
        let (name, rest) = line.split_once(' ')?;
        let id: u32 = name.strip_prefix("cpu")?.parse().ok()?;
        Some((id, rest))
    });
    for (id, rest) in cpus.take(MAX_ENTRIES) {
        for (mode, word) in CPU_MODES.iter().zip(rest.split_ascii_whitespace()) {
            let Some(ticks) = number(word) else { continue };
            let own = [label("cpu_id", id), label("mode", mode)];
            families.add("fly_instance_cpu", &[machine, &own], &ticks.to_string());
        }
    }
}

/// Bytes.
fn memory(families: &mut Families, machine: &Labels, text: &str) {
    let mut found: Vec<(&str, u64)> = Vec::new();
    for line in text.lines().take(MAX_ENTRIES * 2) {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let known = MEMORY.iter().find(|(key, _)| *key == name);
        let kib = rest.split_ascii_whitespace().next().and_then(number);
        if let (Some((_, field)), Some(kib)) = (known, kib)
            && found.iter().all(|(earlier, _)| earlier != field)
        {
            found.push((field, kib.saturating_mul(1024)));
        }
    }
    for (field, bytes) in found {
        let family = format!("fly_instance_memory_{field}");
        families.add(&family, &[machine], &bytes.to_string());
    }
}

fn disks(families: &mut Families, machine: &Labels, text: &str) {
    let disks = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(2);
        let name = words.next().and_then(named)?;
        let real = !name.starts_with("loop") && !name.starts_with("ram");
        real.then(|| (name, words.map(number).collect::<Vec<_>>()))
    });
    add_table(families, machine, "fly_instance_disk_", &DISK, disks);
}

fn network(families: &mut Families, machine: &Labels, text: &str) {
    let devices = text.lines().filter_map(|line| {
        let (name, rest) = line.split_once(':')?;
        let name = named(name.trim()).filter(|name| *name != "lo")?;
        Some((name, rest.split_ascii_whitespace().map(number).collect::<Vec<_>>()))
    });
    add_table(families, machine, "fly_instance_net_", &NET, devices);
}

/// One family per column and one sample per device; a device counts once.
fn add_table<'a>(
    families: &mut Families,
    machine: &Labels,
    prefix: &str,
    columns: &[&str],
    devices: impl Iterator<Item = (&'a str, Vec<Option<u64>>)>,
) {
    let mut seen = Vec::new();
    for (name, values) in devices.take(MAX_ENTRIES) {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let own = [label("device", name)];
        for (column, value) in columns.iter().zip(values) {
            if let Some(value) = value {
                families.add(&format!("{prefix}{column}"), &[machine, &own], &value.to_string());
            }
        }
    }
}

fn files(families: &mut Families, machine: &Labels, text: &str) {
    let words: Vec<Option<u64>> = text.split_ascii_whitespace().map(number).collect();
    if let [Some(allocated), _, Some(maximum)] = words[..] {
        families.add("fly_instance_filefd_allocated", &[machine], &allocated.to_string());
        families.add("fly_instance_filefd_maximum", &[machine], &maximum.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_protocol::FileSystem;

    fn text(stats: &GuestStats) -> String {
        let mut families = Families::default();
        add(&mut families, &vec![label("instance", "m1")], stats);
        let samples = families.text();
        let samples = samples.lines().filter(|line| !line.starts_with('#'));
        samples.map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn the_files_of_proc() {
        let stats = GuestStats {
            loadavg: "0.10 0.20 1.50 1/99 123\n".into(),
            stat: "cpu  9 9\ncpu0 1 2 3 4\nintr 5\n".into(),
            meminfo: "MemTotal:  100 kB\nHugepagesize: 2048 kB\nSwapFree: 7 kB\n".into(),
            diskstats: " 254 0 vda 1 2 3 4 5 6 7 8 9 10 11 12\n 7 0 loop0 1\n".into(),
            net_dev:
                "Inter-|\n face |bytes\n  lo: 1 2\n eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
                    .into(),
            file_nr: "64\t0\t9000\n".into(),
            filesystems: vec![FileSystem {
                mount: "/".into(),
                block_size: 4096,
                blocks: 10,
                blocks_free: 9,
                blocks_avail: 8,
            }],
        };
        let text = text(&stats);
        for line in [
            "fly_instance_load_average{instance=\"m1\",minutes=\"15\"} 1.5",
            "fly_instance_cpu{instance=\"m1\",cpu_id=\"0\",mode=\"idle\"} 4",
            "fly_instance_memory_mem_total{instance=\"m1\"} 102400",
            "fly_instance_memory_swap_free{instance=\"m1\"} 7168",
            "fly_instance_disk_time_io_weighted{instance=\"m1\",device=\"vda\"} 11",
            "fly_instance_net_recv_multicast{instance=\"m1\",device=\"eth0\"} 8",
            "fly_instance_net_sent_compressed{instance=\"m1\",device=\"eth0\"} 16",
            "fly_instance_filefd_maximum{instance=\"m1\"} 9000",
            "fly_instance_filesystem_blocks_avail{instance=\"m1\",mount=\"/\"} 8",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} in\n{text}");
        }
        assert_eq!(text.lines().count(), 3 + 4 + 2 + 11 + 16 + 2 + 4, "{text}");
    }

    #[test]
    fn what_a_hostile_guest_sends_is_bounded_and_valid() {
        let noise = "\u{0}\u{1}{\"} \\ NaN -1 99999999999999999999999 \n: : :\ncpu cpux cpu1\n";
        let stats = GuestStats {
            loadavg: "inf NaN x".into(),
            stat: "cpu0 1\n".repeat(1000),
            meminfo: noise.into(),
            diskstats: (0..1000).map(|n| format!("1 1 d{n} 1\n")).collect(),
            net_dev: format!("{noise}a\"b: 1\n{}: 1\n", "n".repeat(500)),
            file_nr: noise.into(),
            filesystems: vec![FileSystem { mount: "/a\nb".into(), ..FileSystem::default() }; 9],
        };
        let text = text(&stats);
        assert!(text.lines().count() <= 64 + 64 + 1, "{}", text.lines().count());
        assert!(text.contains(r#"device="a\"b"} 1"#), "{text}");
        assert!(!text.contains("nnnn") && !text.contains("NaN"), "{text}");
    }
}
