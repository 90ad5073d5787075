//! The one binary: daemon and command line.

mod certificates;
mod daemon;
mod doctor;
mod down;
mod error;
#[cfg(test)]
mod examples_tests;
mod local_host;
mod restart_list;
mod settings;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use cli::Parsed;
use settings::SettingArgs;
use std::process::ExitCode;

/// Launch apps as fast VMs on your own hosts
#[derive(Debug, Parser)]
#[command(name = "updraft", version)]
struct Updraft {
    #[command(flatten)]
    global: cli::GlobalArgs,
    #[command(subcommand)]
    command: Top,
}

#[derive(Debug, Subcommand)]
enum Top {
    /// Start the platform on this machine: API, worker and edge, or some of them
    ///
    /// Runs until SIGTERM or SIGINT. The machines keep running after that, and
    /// the next `updraft up` with the same data directory takes them over;
    /// `updraft down` stops them as well.
    Up(SettingArgs),
    /// Stop the platform on this machine and all its VMs
    ///
    /// Machines get their signal and their time to end, or are suspended; which
    /// ones ran is remembered, and the next `updraft up` starts them again.
    Down(down::DownArgs),
    Doctor(doctor::DoctorArgs),
    Certificates(certificates::CertificatesArgs),
    #[command(flatten)]
    Cli(cli::Command),
}

/// Longest wait for blocking work that is still under way at the end.
const LAST_WORK: std::time::Duration = std::time::Duration::from_secs(5);

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == vmm_qemu::jail::SUBCOMMAND) {
        // What the daemon keeps to itself is another matter than the root that is
        // made here: the VM's own user is to find its way in it.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        vmm_qemu::jail::main(args);
    }
    clap_complete::CompleteEnv::with_factory(Updraft::command).complete();
    let parsed = match cli::parse(Updraft::command(), std::env::args_os()) {
        Parsed::Matches(matches) => {
            Updraft::from_arg_matches(&matches).map_err(|err| err.format(&mut Updraft::command()))
        }
        Parsed::Text(text) => return text.show(),
    };
    let parsed = match parsed {
        Ok(parsed) => parsed,
        // Usage errors end the process here with exit code 2.
        Err(err) => err.exit(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(err) => {
            eprintln!("Error: Cannot start\nCaused by: start the runtime: {err}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(parsed));
    // A thread that waits for a lock must not keep the process.
    runtime.shutdown_timeout(LAST_WORK);
    ExitCode::from(code)
}

async fn run(parsed: Updraft) -> u8 {
    let vars: std::collections::BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let outcome = match parsed.command {
        Top::Up(args) => daemon::up(&args, &vars).await,
        Top::Down(args) => down::down(&args, &vars).await,
        Top::Doctor(args) => doctor::doctor(&args, &vars).await,
        Top::Certificates(args) => certificates::run(&args),
        Top::Cli(command) => {
            let no_color = vars.get("NO_COLOR").is_some_and(|value| !value.is_empty());
            let mut env = cli::CliEnv {
                cwd: std::env::current_dir().unwrap_or_default(),
                clock: rt::Clock::system(),
                rng: rt::Rng::from_os(),
                ui: cli::Ui::stdio(no_color),
                vars,
            };
            return cli::run(&parsed.global, command, Updraft::command(), &mut env).await;
        }
    };
    match outcome {
        Ok(code) => code,
        Err(err) => {
            eprint!("{}", err.render());
            err.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");

    #[test]
    fn the_reference_page_is_the_text_of_help() {
        let page = cli::markdown(&Updraft::command());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(PAGE, &page).unwrap();
        }
        let written = std::fs::read_to_string(PAGE).unwrap();
        let differs = written.lines().zip(page.lines()).find(|(old, new)| old != new);
        let same = written == page;
        assert!(same, "run UPDATE_DOCS=1 cargo test -p updraft reference_page; {differs:?}");
    }

    const ERRORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");

    fn errors_page() -> String {
        let mut page = String::from(
            "# Errors\n\nThis page is made from the error catalogue; `UPDATE_DOCS=1 cargo test -p updraft \
             errors_page` writes it.\n\n## Of the API\n\nAn error is `{\"error\", \"status\", \"code\", \
             \"field\"?, \"hint\", \"docs\"}`. `error` has what was attempted and why it failed, `code` is one of \
             these and never changes, `field` is the path of the field that is to blame, `hint` \
             is what to do next, and `docs` is the path of the code's row on the page `/docs` of the API. `status` is \
             that of Fly's API: `insufficient_capacity` and `name_taken` for the codes of these names, else \
             `unknown`; the two codes of commands are additions to it.\n\n| code | HTTP | meaning | remedy |\n|---|---|---|---|\n",
        );
        for entry in control::Kind::ALL.map(control::Kind::entry) {
            let control::Entry { code, http, meaning, remedy, .. } = entry;
            page.push_str(&format!("| `{code}` | {http} | {meaning} | {remedy} |\n"));
        }
        page.push_str(
            "\n## Of the edge\n\nAn answer that the edge gives itself, in place of the app, has the code in its \
             body and in the log. Codes that begin with P are those of \
             [Fly's proxy](https://fly.io/docs/monitoring/error-codes/).\n\n\
             | code | HTTP | meaning | remedy |\n|---|---|---|---|\n",
        );
        for edge::Entry { code, status, meaning, remedy } in edge::Code::ALL.map(edge::Code::entry)
        {
            page.push_str(&format!("| {code} | {} | {meaning} | {remedy} |\n", status.as_u16()));
        }
        page
    }

    #[test]
    fn the_errors_page_is_the_catalogue() {
        let page = errors_page();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(ERRORS, &page).unwrap();
        }
        let written = std::fs::read_to_string(ERRORS).unwrap();
        assert!(written == page, "run UPDATE_DOCS=1 cargo test -p updraft errors_page");
    }

    #[test]
    fn the_shipped_unit_runs_commands_that_exist_and_needs_no_file() {
        let unit = include_str!("../../../packaging/updraft.service");
        let value = |key: &'static str| unit.lines().filter_map(move |line| line.strip_prefix(key));
        let start = value("ExecStart=").next().unwrap();
        let mut commands = start.split("exec /usr/local/bin/updraft ").skip(1);
        for command in commands.by_ref() {
            let words = command.split(';').next().unwrap().split_whitespace();
            let words = std::iter::once("updraft").chain(words);
            assert!(Updraft::command().try_get_matches_from(words).is_ok(), "{command}");
        }
        assert!(start.contains("if [ -e /etc/updraft.toml ]"), "the file is optional: {start}");
        assert!(value("EnvironmentFile=").all(|file| file.starts_with('-')), "optional too");
        // `updraft down` ends the daemon with 0, wrong settings with 2.
        assert_eq!(value("Restart=").collect::<Vec<_>>(), ["on-failure"]);
        assert_eq!(value("RestartPreventExitStatus=").collect::<Vec<_>>(), ["2"]);
        assert_eq!(value("KillMode=").collect::<Vec<_>>(), ["process"]);
        assert!(value("Environment=").any(|set| set.starts_with("HOME=")), "for the CLI's config");
    }

    #[test]
    fn the_parser_is_consistent() {
        Updraft::command().debug_assert();
    }
}
