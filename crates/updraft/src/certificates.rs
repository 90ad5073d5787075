//! `updraft certificates`: the certificates by which the hosts of a platform know
//! each other.

use crate::error::DaemonError;
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use host_remote::{Authority, Credentials, Peer, Role};
use rt::Clock;
use std::net::IpAddr;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A host's certificate lasts a year: it is renewed by hand until hosts join by
/// themselves.
const PEER_LIFETIME: Duration = DAY.saturating_mul(365);
const AUTHORITY_LIFETIME: Duration = DAY.saturating_mul(3650);

/// Make the certificates by which the hosts of a platform know each other
#[derive(Debug, Args)]
pub(crate) struct CertificatesArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the authority of a platform: `ca.pem` and its secret `ca.key`
    Init {
        /// Directory for both files
        #[arg(long, value_name = "DIR", default_value = "certificates")]
        dir: Utf8PathBuf,
        /// Name of the platform, for people
        #[arg(long, default_value = "updraft")]
        platform: String,
    },
    /// Make a certificate for one process: `<name>.pem` and its secret `<name>.key`
    Issue {
        /// Name of the process, as peers call it (`host.name`)
        #[arg(long)]
        name: String,
        /// What the process runs: each role gives rights on the other hosts
        #[arg(long, value_delimiter = ',', required = true)]
        roles: Vec<Role>,
        /// Addresses, for programs that check them; peers check the name
        #[arg(long = "address", value_name = "IP")]
        addresses: Vec<IpAddr>,
        /// Directory with the authority, where the new files go as well
        #[arg(long, value_name = "DIR", default_value = "certificates")]
        dir: Utf8PathBuf,
    },
}

/// Runs the command; prints the files that it made.
pub(crate) fn run(args: &CertificatesArgs) -> Result<u8, DaemonError> {
    let now_ms = Clock::system().now_ms();
    match &args.command {
        Command::Init { dir, platform } => {
            let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
            let made = Authority::create(platform, now_ms, AUTHORITY_LIFETIME);
            let made = made.map_err(|err| failed("Cannot make an authority", &err))?;
            write_new(dir, &certificate, &key, made.credentials())?;
            println!("{certificate}\n{key}");
            eprintln!("Keep {key} secret and safe: who has it can add hosts to the platform.");
        }
        Command::Issue { name, roles, addresses, dir } => {
            let authority = Authority::load(Credentials {
                certificate: read(&dir.join("ca.pem"))?,
                key: read(&dir.join("ca.key"))?,
            });
            let peer = Peer { name: label(name)?, roles: roles.iter().copied().collect() };
            let issued = authority.issue(&peer, addresses, now_ms, PEER_LIFETIME);
            let issued = issued.map_err(|err| failed(&format!("Cannot certify {name}"), &err))?;
            let (certificate, key) =
                (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
            write_new(dir, &certificate, &key, &issued)?;
            println!("{certificate}\n{key}");
        }
    }
    Ok(0)
}

/// A name that can be one DNS label.
fn label(name: &str) -> Result<String, DaemonError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = (1..=63).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if fits {
        return Ok(name.to_owned());
    }
    let rule = "A name is 1 to 63 lower-case letters, digits and dashes, and neither begins nor \
                ends with a dash.";
    Err(DaemonError::usage(format!("Cannot use the name {name:?}")).hint(rule))
}

fn read(path: &Utf8Path) -> Result<String, DaemonError> {
    std::fs::read_to_string(path).map_err(|err| {
        failed(&format!("Cannot read {path}"), &err)
            .hint("Make the authority with `updraft certificates init`, or name its --dir.")
    })
}

/// Writes both files; never replaces an existing one.
fn write_new(
    dir: &Utf8Path,
    certificate: &Utf8Path,
    key: &Utf8Path,
    made: &Credentials,
) -> Result<(), DaemonError> {
    std::fs::create_dir_all(dir).map_err(|err| failed(&format!("Cannot make {dir}"), &err))?;
    for path in [certificate, key] {
        if path.exists() {
            let hint = "Remove it if it is no longer used, or give another --dir.";
            return Err(DaemonError::failed(format!("{path} exists already")).hint(hint));
        }
    }
    for (path, text, mode) in [(certificate, &made.certificate, 0o644), (key, &made.key, 0o600)] {
        rt::fs::write_atomic(path.as_std_path(), text.as_bytes(), mode)
            .map_err(|err| failed(&format!("Cannot write {path}"), &err))?;
    }
    Ok(())
}

fn failed(what: &str, err: &(dyn std::error::Error + 'static)) -> DaemonError {
    DaemonError::failed(what).because_of(err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn run_in(dir: &Utf8Path, command: impl Fn(Utf8PathBuf) -> Command) -> Result<u8, DaemonError> {
        run(&CertificatesArgs { command: command(dir.into()) })
    }

    #[test]
    fn an_authority_and_a_host_are_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let issue = |name: &'static str| {
            move |dir| Command::Issue {
                name: name.into(),
                roles: vec![Role::Worker],
                addresses: vec![],
                dir,
            }
        };
        let early = run_in(dir, issue("one")).unwrap_err().render();
        assert!(early.contains("certificates init"), "{early}");
        let init = |dir| Command::Init { dir, platform: "test".into() };
        run_in(dir, init).unwrap();
        run_in(dir, issue("one")).unwrap();
        for secret in ["ca.key", "one.key"] {
            let mode = std::fs::metadata(dir.join(secret)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{secret}");
        }
        let ca = read(&dir.join("ca.pem")).unwrap();
        let again = run_in(dir, init).unwrap_err().render();
        assert!(again.contains("exists already"), "{again}");
        assert_eq!(read(&dir.join("ca.pem")).unwrap(), ca);
        let odd = run_in(dir, issue("No Name")).unwrap_err().render();
        assert!(odd.contains("lower-case"), "{odd}");
    }
}
