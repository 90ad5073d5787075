//! Flags that make up a machine's config, shared by run, create and update.

use super::size_flags::SizeArgs;
use super::target::Target;
use crate::error::{CliError, Result};
use crate::flyctl::flags::{NewMachine, Unsupported};
use crate::parse::{self, PortChange};
use clap::Args;
use std::collections::BTreeMap;
use std::path::Path;
use wire::machines::{
    Autostop, Dns, File, Guest, Init, MachineConfig, Mount, Restart, Rootfs, ScheduleOptions,
    Service,
};

/// What the machine is to run and how.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConfigArgs {
    /// Environment variable, NAME=value; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = parse::key_value)]
    env: Vec<(String, String)>,
    /// Port that the edge routes: PORT[:MACHINE_PORT][/PROTOCOL[:HANDLER...]]; may be repeated
    ///
    /// `-p 80:8080/tcp:http` routes HTTP on port 80 to port 8080 of the machine; `-p
    /// 80/tcp:-` removes port 80. Only ports with the handler http are served yet:
    /// without TLS, raw TCP or UDP.
    #[arg(short, long, value_name = "PORT", value_parser = parse::parse_port)]
    port: Vec<PortChange>,
    /// Label, KEY=value; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse::key_value)]
    metadata: Vec<(String, String)>,
    /// File in the machine, /PATH=text; may be repeated
    #[arg(long, value_name = "/PATH=TEXT", value_parser = parse::file_literal)]
    file_literal: Vec<File>,
    /// File in the machine with the content of a local file, /PATH=FILE; may be repeated
    #[arg(long, value_name = "/PATH=FILE")]
    file_local: Vec<String>,
    /// Write a secret into a file of the machine; its value has to be base64; may be repeated
    #[arg(long, value_name = "/PATH=SECRET", value_parser = parse::file_secret)]
    file_secret: Vec<File>,
    /// Volume to mount, NAME:/PATH or ID:/PATH; may be repeated
    ///
    /// By its name, any volume of that name without a machine is attached. The machine runs on
    /// the host of its volumes.
    #[arg(short, long, value_name = "VOLUME:/PATH", value_parser = parse::mount)]
    volume: Vec<Mount>,
    /// Program to run in place of the image's entrypoint, split as a shell would
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<String>,
    /// Command to run in the machine each time it was resumed, split as a shell would
    #[arg(long, value_name = "COMMAND")]
    on_resume: Option<String>,
    /// Word for the kernel's command line; may be repeated
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    kernel_arg: Vec<String>,
    /// When to start the machine again: no, on-fail or always
    #[arg(long, value_name = "POLICY", value_parser = restart_policy)]
    restart: Option<&'static str>,
    /// Let the edge start the machine for a request [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    autostart: Option<bool>,
    /// What the edge does with the idle machine: off, stop or suspend [default: off]
    #[arg(long, value_name = "ACTION", num_args = 0..=1, require_equals = true, default_missing_value = "stop", value_parser = autostop)]
    autostop: Option<Autostop>,
    /// Size of the writable root in GB or with a unit, such as 10GB
    #[arg(long, value_name = "SIZE", value_parser = parse::whole_gib)]
    rootfs_size: Option<u32>,
    /// When the writable root is kept
    #[arg(long, value_name = "WHEN", value_parser = ["never", "restart", "always"])]
    rootfs_persist: Option<String>,
    /// Swap in MB or with a unit
    #[arg(long, value_name = "SIZE", value_parser = parse::memory_mib)]
    swap_size: Option<u32>,
    #[command(flatten)]
    size: SizeArgs,
    /// Container of the config that image, command, entrypoint and files are for [default: app, or
    /// the first]
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// Keep the machine out of the app's .internal names
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    skip_dns_registration: Option<bool>,
    /// Config as JSON, or a file that holds it; flags change it
    #[arg(long, value_name = "JSON|FILE")]
    machine_config: Option<String>,
    /// When to run it: hourly, daily, weekly, monthly, or a cron expression of five fields
    #[arg(long, value_name = "SCHEDULE")]
    schedule: Option<String>,
    /// Time zone of the schedule, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    schedule_timezone: Option<String>,
    /// What happens to a run that is due while another is under way [default: skip]
    #[arg(long, value_name = "ACTION", value_parser = ["skip", "queue", "replace"])]
    schedule_overlap: Option<String>,
    /// What happens to runs that were due while the host was down [default: run_once]
    #[arg(long, value_name = "ACTION", value_parser = ["skip", "run_once"])]
    schedule_misfire: Option<String>,
    #[command(flatten)]
    unsupported: Unsupported<NewMachine>,
}

impl ConfigArgs {
    /// The config that `--machine-config` gives, if it is there.
    pub(crate) fn base(&self, cwd: &Path) -> Result<Option<MachineConfig>> {
        let Some(given) = &self.machine_config else { return Ok(None) };
        let text = if given.trim_start().starts_with('{') {
            given.clone()
        } else {
            let path = cwd.join(given);
            std::fs::read_to_string(&path).map_err(|err| {
                let what = format!("Cannot read --machine-config {}", path.display());
                CliError::usage(what).because_of(&err)
            })?
        };
        let parsed = serde_json::from_str(&text).map(Some);
        parsed.map_err(|err| CliError::usage("Cannot parse --machine-config").because_of(&err))
    }

    /// Changes a config by the flags that were given.
    pub(crate) fn apply(&self, config: &mut MachineConfig, cwd: &Path) -> Result<()> {
        merge(&mut config.env, &self.env);
        merge(&mut config.metadata, &self.metadata);
        self.apply_files(config, cwd)?;
        self.apply_init(config)?;
        self.size.apply(config);
        if !self.kernel_arg.is_empty() {
            let guest = config.guest.get_or_insert_with(Guest::default);
            guest.kernel_args = Some(self.kernel_arg.clone());
        }
        if self.skip_dns_registration.is_some() {
            let dns = config.dns.get_or_insert_with(Dns::default);
            dns.skip_registration = self.skip_dns_registration;
        }
        self.apply_services(config);
        self.apply_schedule(config);
        self.apply_volumes(config);
        if let Some(policy) = self.restart {
            config.restart.get_or_insert_with(Restart::default).policy = Some(policy.to_owned());
        }
        if self.rootfs_size.is_some() || self.rootfs_persist.is_some() {
            let rootfs = config.rootfs.get_or_insert_with(Rootfs::default);
            rootfs.size_gb = self.rootfs_size.or(rootfs.size_gb);
            rootfs.persist = self.rootfs_persist.clone().or(rootfs.persist.take());
        }
        Ok(())
    }

    /// The part of the config that image, command, entrypoint and files are for.
    pub(crate) fn target<'c>(&self, config: &'c mut MachineConfig) -> Result<Target<'c>> {
        Target::of(config, self.container.as_deref())
    }

    fn apply_files(&self, config: &mut MachineConfig, cwd: &Path) -> Result<()> {
        let mut files = self.file_literal.clone();
        files.extend(self.file_secret.iter().cloned());
        for text in &self.file_local {
            let file = parse::file_local(text, cwd);
            files
                .push(file.map_err(|why| CliError::usage("Cannot use --file-local").because(why))?);
        }
        if !files.is_empty() {
            self.target(config)?.add_files(files);
        }
        Ok(())
    }

    fn apply_init(&self, config: &mut MachineConfig) -> Result<()> {
        if let Some(entrypoint) = &self.entrypoint {
            let entrypoint = words("--entrypoint", entrypoint)?;
            self.target(config)?.set_entrypoint(entrypoint);
        }
        if let Some(on_resume) = &self.on_resume {
            let init = config.init.get_or_insert_with(Init::default);
            init.on_resume = words("--on-resume", on_resume)?;
        }
        if let Some(swap) = self.swap_size {
            let init = config.init.get_or_insert_with(Init::default);
            init.swap_size_mb = Some(swap.into());
        }
        Ok(())
    }

    fn apply_schedule(&self, config: &mut MachineConfig) {
        config.schedule = self.schedule.clone().or(config.schedule.take());
        let (zone, overlap) = (&self.schedule_timezone, &self.schedule_overlap);
        let misfire = &self.schedule_misfire;
        if zone.is_some() || overlap.is_some() || misfire.is_some() {
            let options = config.schedule_options.get_or_insert_with(ScheduleOptions::default);
            options.timezone = zone.clone().or(options.timezone.take());
            options.overlap = overlap.clone().or(options.overlap.take());
            options.misfire = misfire.clone().or(options.misfire.take());
        }
    }

    /// A volume that the config has already gets the path; others are added.
    fn apply_volumes(&self, config: &mut MachineConfig) {
        for mount in &self.volume {
            let mounts = config.mounts.get_or_insert_default();
            let same = |had: &&mut Mount| match (&mount.volume, &mount.name) {
                (Some(id), _) => had.volume.as_ref() == Some(id),
                (None, name) => had.name == *name && had.path == mount.path,
            };
            match mounts.iter_mut().find(same) {
                Some(had) => had.path = mount.path.clone(),
                None => mounts.push(mount.clone()),
            }
        }
    }

    fn apply_services(&self, config: &mut MachineConfig) {
        if !self.port.is_empty() {
            let services = config.services.get_or_insert_default();
            parse::apply_ports(services, &self.port);
        }
        let set = |service: &mut Service| {
            service.autostart = self.autostart.or(service.autostart);
            service.autostop = self.autostop.or(service.autostop);
        };
        config.services.iter_mut().flatten().for_each(set);
    }
}

/// A command in one string as a list of words; empty means none.
pub(crate) fn words(flag: &str, text: &str) -> Result<Option<Vec<String>>> {
    let words = shell_words::split(text);
    let words = words.map_err(|err| {
        let error = CliError::usage(format!("Cannot use {flag} {text:?}")).because_of(&err);
        error.hint("Close the quotes; a backslash protects the character after it.")
    })?;
    Ok(Some(words).filter(|words| !words.is_empty()))
}

fn merge(into: &mut Option<BTreeMap<String, String>>, pairs: &[(String, String)]) {
    if !pairs.is_empty() {
        into.get_or_insert_default().extend(pairs.iter().cloned());
    }
}

/// The API's name for a policy; accepts the spellings of Fly's API, flyctl and Docker.
fn restart_policy(text: &str) -> Result<&'static str, String> {
    match text {
        "no" | "never" => Ok("no"),
        "on-fail" | "on-failure" => Ok("on-failure"),
        "always" => Ok("always"),
        _ => Err("write no, on-fail or always".to_owned()),
    }
}

fn autostop(text: &str) -> Result<Autostop, String> {
    match text {
        "off" | "false" => Ok(Autostop::Off),
        "stop" | "true" => Ok(Autostop::Stop),
        "suspend" => Ok(Autostop::Suspend),
        _ => Err("write off, stop or suspend".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        config: ConfigArgs,
    }

    fn config(flags: &[&str], base: &str) -> String {
        let flags = Flags::try_parse_from([&["x"], flags].concat()).unwrap().config;
        let mut config = serde_json::from_str(base).unwrap();
        flags.apply(&mut config, Path::new("/")).unwrap();
        serde_json::to_string(&config).unwrap()
    }

    #[test]
    fn flags_change_the_config() {
        let base = r#"{"image":"x"}"#;
        for (flags, json) in [
            (&[][..], r#"{"image":"x"}"#),
            (&["-e", "A=1", "-e", "B="], r#"{"image":"x","env":{"A":"1","B":""}}"#),
            (
                &["--vm-size", "shared-cpu-2x", "--vm-memory", "1gb"],
                r#"{"image":"x","guest":{"cpu_kind":"shared","cpus":2,"memory_mb":1024}}"#,
            ),
            (
                &["--entrypoint", "sh -c 'a b'"],
                r#"{"image":"x","init":{"entrypoint":["sh","-c","a b"]}}"#,
            ),
            (
                &["--on-resume", "sh -c 'date > /run/resumed'"],
                r#"{"image":"x","init":{"on_resume":["sh","-c","date > /run/resumed"]}}"#,
            ),
            (
                &["-p", "80:8080/tcp:http", "--autostop=suspend"],
                r#"{"image":"x","services":[{"protocol":"tcp","internal_port":8080,"ports":[{"port":80,"handlers":["http"]}],"autostop":"suspend"}]}"#,
            ),
            (
                &[
                    "--schedule",
                    "0 9 * * *",
                    "--schedule-timezone",
                    "UTC",
                    "--schedule-overlap=queue",
                ],
                r#"{"image":"x","schedule":"0 9 * * *","schedule_options":{"timezone":"UTC","overlap":"queue"}}"#,
            ),
            (
                &["-v", "data:/data", "-v", "vol_0123456789abcdef:/more"],
                r#"{"image":"x","mounts":[{"name":"data","path":"/data"},{"volume":"vol_0123456789abcdef","path":"/more"}]}"#,
            ),
            (&["--skip-dns-registration"], r#"{"image":"x","dns":{"skip_registration":true}}"#),
            (&["--restart", "on-fail"], r#"{"image":"x","restart":{"policy":"on-failure"}}"#),
            (
                &["-p", "80:8080/tcp:http", "--autostop", "--autostart=false"],
                r#"{"image":"x","services":[{"protocol":"tcp","internal_port":8080,"ports":[{"port":80,"handlers":["http"]}],"autostart":false,"autostop":true}]}"#,
            ),
            (
                &["--rootfs-size", "2gb", "--rootfs-persist", "always"],
                r#"{"image":"x","rootfs":{"persist":"always","size_gb":2}}"#,
            ),
            (
                &["--kernel-arg", "-x=1", "--swap-size", "1g"],
                r#"{"image":"x","init":{"swap_size_mb":1024},"guest":{"kernel_args":["-x=1"]}}"#,
            ),
        ] {
            assert_eq!(config(flags, base), json, "{flags:?}");
        }
    }

    #[test]
    fn flags_of_a_process_change_the_container_that_is_meant() {
        let base = r#"{"image":"","containers":[{"name":"web"},{"name":"db"}]}"#;
        let flags = ["--container", "db", "--entrypoint", "run", "--file-literal", "/f=hi"];
        let after = r#"{"image":"","containers":[{"name":"web"},{"name":"db","entrypoint":["run"],"files":[{"guest_path":"/f","raw_value":"aGk="}]}]}"#;
        assert_eq!(config(&flags, base), after);
    }

    #[test]
    fn fields_that_no_flag_names_stay() {
        let base =
            r#"{"image":"x","env":{"A":"1"},"guest":{"cpus":2,"memory_mb":512},"future":[1]}"#;
        let after = r#"{"image":"x","env":{"A":"1","B":"2"},"guest":{"cpus":2,"memory_mb":1024},"future":[1]}"#;
        assert_eq!(config(&["-e", "B=2", "--memory", "1024"], base), after);
    }

    #[test]
    fn commands_are_split_as_a_shell_does() {
        for (text, argv) in [
            ("", None),
            ("  ls  -l ", Some(vec!["ls", "-l"])),
            ("sh -c 'echo $HOME; x'", Some(vec!["sh", "-c", "echo $HOME; x"])),
            (r#"a "b \"c\" \n" d\ e"#, Some(vec!["a", r#"b "c" \n"#, "d e"])),
            ("a'b'\"c\"", Some(vec!["abc"])),
            ("''", Some(vec![""])),
        ] {
            let got = words("--command", text).unwrap();
            let got = got.as_ref().map(|v| v.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(got, argv, "{text}");
        }
        for open in ["'x", "\"x"] {
            assert_eq!(words("--command", open).unwrap_err().kind, crate::Exit::Usage, "{open}");
        }
    }

    #[test]
    fn flags_without_effect_are_refused() {
        for flag in ["--dockerfile=x", "--vm-gpus=1", "--wg"] {
            let refused = Flags::try_parse_from(["x", flag]).unwrap_err().to_string();
            assert!(refused.contains("is not supported"), "{flag}: {refused}");
        }
    }
}
