//! What one process of a machine runs: program, environment and user, from the machine's
//! record and the image.

use super::images::MachineImages;
use crate::ports::ImageConfig;
use crate::record::Record;
use crate::secrets::MachineSecrets;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use guest_protocol::{GuestFile, Main, OIDC_TOKEN_FILE};
use model::address::{Addresses, uncompressed};
use std::collections::BTreeMap;
use wire::machines::{File, Init, MachineProcess};

/// The role that SDKs of AWS assume; a machine that has it gets a token for that
/// (<https://fly.io/docs/security/openid-connect/#aws>).
const AWS_ROLE: &str = "AWS_ROLE_ARN";
/// Where those SDKs look for the token.
const AWS_TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
/// The audience that AWS requires of it.
const AWS_AUDIENCE: &str = "sts.amazonaws.com";

/// The values that the host adds to the record and the image.
pub(super) struct HostFacts<'a> {
    pub(super) region: &'a str,
    pub(super) addresses: Option<Addresses>,
    pub(super) mtu: u16,
    /// Name servers for guests whose config names none.
    pub(super) nameservers: Vec<String>,
    pub(super) now_ns: i64,
    pub(super) entropy: Vec<u8>,
}

/// The machine and image whose process is described.
#[derive(Clone)]
pub(super) struct Scope<'a> {
    pub(super) record: &'a Record,
    pub(super) facts: &'a HostFacts<'a>,
    pub(super) image: &'a ImageConfig,
    /// Reference of the image.
    pub(super) reference: &'a str,
    /// Overrides of what the image is configured to run.
    pub(super) init: Init,
    /// Secrets that the machine is given.
    pub(super) secrets: &'a MachineSecrets,
}

/// A process of the machine: that of `init`, or one that the config lists instead.
pub(super) fn main(scope: &Scope<'_>, process: Option<&MachineProcess>) -> Result<Main, String> {
    let (image, init) = (scope.image, scope.init.clone());
    let tty = init.tty.unwrap_or(false);
    let user = process.and_then(|process| process.user.clone()).filter(|user| !user.is_empty());
    Ok(Main {
        argv: argv(&with_overrides(init, process), image)?,
        env: env(scope, process)?,
        user: user.unwrap_or_else(|| image.user.clone()),
        workdir: image.workdir.clone(),
        tty,
    })
}

/// `init` has the values that a listed process leaves open.
fn with_overrides(mut init: Init, process: Option<&MachineProcess>) -> Init {
    let Some(process) = process else { return init };
    let given = |argv: &Option<Vec<String>>| argv.clone().filter(|argv| !argv.is_empty());
    let (exec, entrypoint) = (given(&process.exec), given(&process.entrypoint));
    let cmd = given(&process.cmd);
    if exec.is_some() || entrypoint.is_some() || cmd.is_some() {
        init.exec = exec;
    }
    init.entrypoint = entrypoint.or(init.entrypoint);
    init.cmd = cmd.or(init.cmd);
    init
}

/// `init.exec` before `init.entrypoint` and `init.cmd` before the image; overriding
/// the entrypoint keeps the image's CMD.
fn argv(init: &Init, image: &ImageConfig) -> Result<Vec<String>, String> {
    if let Some(exec) = init.exec.as_ref().filter(|exec| !exec.is_empty()) {
        return Ok(exec.clone());
    }
    let mut argv = init.entrypoint.clone().unwrap_or_else(|| image.entrypoint.clone());
    argv.extend(init.cmd.clone().unwrap_or_else(|| image.cmd.clone()));
    match argv.first() {
        Some(program) if !program.is_empty() => Ok(argv),
        _ => Err("nothing to run: the image has neither ENTRYPOINT nor CMD, \
                  and config.init gives no exec, entrypoint or cmd"
            .into()),
    }
}

/// The image's environment, then the config's, then the process's, then the secrets, then the
/// platform's; later wins (fly.io/docs/reference/configuration,
/// fly.io/docs/machines/runtime-environment).
pub(super) fn env(
    scope: &Scope<'_>,
    process: Option<&MachineProcess>,
) -> Result<Vec<(String, String)>, String> {
    let Scope { record, facts, image, secrets, .. } = scope;
    let mut env: BTreeMap<String, String> = image
        .env
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    env.extend(metadata_variables(record));
    env.extend(record.config.env.clone().unwrap_or_default());
    env.extend(process.and_then(|process| process.env.clone()).unwrap_or_default());
    let fields = process.iter().flat_map(|process| process.env_from.iter().flatten());
    env.extend(
        fields.filter_map(|from| Some((from.env_var.clone(), property(scope, &from.field_ref)?))),
    );
    let ignore = process.and_then(|process| process.ignore_app_secrets) == Some(true);
    let named = process.and_then(|process| process.secrets.as_deref()).unwrap_or_default();
    env.extend(secrets.environment(ignore, named)?);
    let field = |name: &str| property(scope, name).unwrap_or_default();
    let platform = [
        ("FLY_APP_NAME", field("app_name")),
        ("FLY_MACHINE_ID", field("id")),
        ("FLY_ALLOC_ID", field("id")),
        ("FLY_REGION", field("region")),
        ("FLY_IMAGE_REF", field("image")),
        ("FLY_MACHINE_VERSION", field("version")),
        ("FLY_PROCESS_GROUP", record.process_group().into()),
        ("FLY_VM_MEMORY_MB", record.memory_mib().to_string()),
        ("FLY_PRIVATE_IP", field("private_ip")),
    ];
    env.extend(platform.map(|(name, value)| (name.to_owned(), value)));
    env.entry("PRIMARY_REGION".into()).or_insert_with(|| facts.region.into());
    if env.get(AWS_ROLE).is_some_and(|role| !role.is_empty()) {
        env.entry(AWS_TOKEN_FILE.into()).or_insert_with(|| OIDC_TOKEN_FILE.into());
        env.entry("AWS_ROLE_SESSION_NAME".into()).or_insert_with(|| record.id.to_string());
    }
    Ok(env.into_iter().collect())
}

/// Audience of the token that a process with this environment expects in its file, if any.
pub(super) fn oidc_audience(env: &[(String, String)]) -> Option<String> {
    let has = |name, fits: fn(&str) -> bool| env.iter().any(|(n, value)| n == name && fits(value));
    let wants = has(AWS_ROLE, |role| !role.is_empty())
        && has(AWS_TOKEN_FILE, |file| file == OIDC_TOKEN_FILE);
    wants.then(|| AWS_AUDIENCE.into())
}

/// The metadata as variables, if the config asks for that: `role` is `FLY_METADATA_ROLE`. Of
/// two keys that become one name the later in their order has it.
fn metadata_variables(record: &Record) -> BTreeMap<String, String> {
    let wanted = record.config.metadata_env == Some(true);
    let metadata = record.config.metadata.iter().flatten().filter(|_| wanted);
    let name = |key: &str| {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        format!("FLY_METADATA_{}", key.chars().map(plain).collect::<String>())
    };
    // No variable can hold a NUL byte (environ(7)).
    let fits = metadata.filter(|(_, value)| !value.contains('\0'));
    fits.map(|(key, value)| (name(key), value.clone())).collect()
}

/// A property of the machine, by its name in `env_from[].field_ref`.
fn property(scope: &Scope<'_>, name: &str) -> Option<String> {
    let Scope { record, facts, reference, .. } = scope;
    Some(match name {
        "id" => record.id.to_string(),
        "version" => record.instance.to_string(),
        "app_name" => record.app_name.to_string(),
        "private_ip" => facts.addresses.map_or(String::new(), |a| uncompressed(a.ipv6)),
        "region" => facts.region.into(),
        "image" => (*reference).to_owned(),
        other => {
            let key = other.strip_prefix("metadata.")?;
            record.config.metadata.as_ref()?.get(key)?.clone()
        }
    })
}

/// The files that have a value: their own, that of a secret, or the config of an image.
pub(super) fn files<'a>(
    files: impl Iterator<Item = &'a File>,
    secrets: &MachineSecrets,
    images: &MachineImages,
) -> Result<Vec<GuestFile>, String> {
    let content = |file: &File| match (&file.raw_value, &file.secret_name) {
        (Some(raw), _) => {
            Some(STANDARD.decode(raw).map_err(|err| format!("raw_value is not base64: {err}")))
        }
        (None, Some(name)) if !name.is_empty() => Some(secrets.file(name)),
        _ => {
            let image = file.image_config.as_deref().filter(|image| !image.is_empty())?;
            Some(images.config_of(image))
        }
    };
    let guest_file = |(file, content): (&File, Result<Vec<u8>, String>)| {
        let path = file.guest_path.clone();
        let content = content.map_err(|why| format!("file {path} cannot be written: {why}"))?;
        Ok(GuestFile { path, mode: file.mode.unwrap_or(0o644), content })
    };
    files.filter_map(|file| Some((file, content(file)?))).map(guest_file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;
    use crate::secrets::tests::of_app;
    use serde_json::json;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&word| word.into()).collect()
    }

    #[test]
    fn the_command_line() {
        let image = ImageConfig {
            entrypoint: words(&["/entry"]),
            cmd: words(&["serve"]),
            ..ImageConfig::default()
        };
        let run = |exec: &[&str], entrypoint: Option<&[&str]>, cmd: Option<&[&str]>| {
            let init = Init {
                exec: Some(words(exec)),
                entrypoint: entrypoint.map(words),
                cmd: cmd.map(words),
                ..Init::default()
            };
            argv(&init, &image).map(|argv| argv.join(" ")).unwrap_or_else(|_| "nothing".into())
        };
        assert_eq!(run(&[], None, None), "/entry serve");
        assert_eq!(run(&[], None, Some(&["migrate"])), "/entry migrate");
        assert_eq!(run(&[], Some(&["sh", "-c"]), None), "sh -c serve");
        assert_eq!(run(&["top"], Some(&["sh"]), Some(&["x"])), "top");
        assert_eq!(run(&[], Some(&[]), Some(&[])), "nothing");
    }

    #[test]
    fn the_platforms_environment_beats_secrets_beat_the_configs_beats_the_images() {
        let mut record = sample();
        record.config_mut().metadata = Some([("role".into(), "primary".into())].into());
        record.config_mut().env =
            Some(["A", "B", "D"].map(|name| (name.into(), "config".into())).into());
        let image = ImageConfig {
            env: words(&["A=image", "C=image=x", "FLY_APP_NAME=fake", "broken"]),
            ..ImageConfig::default()
        };
        let facts = HostFacts {
            region: "here",
            addresses: None,
            mtu: 1500,
            nameservers: Vec::new(),
            now_ns: 0,
            entropy: Vec::new(),
        };
        let process = serde_json::from_value(json!({
            "env": { "B": "process" },
            "env_from": [{ "env_var": "WHERE", "field_ref": "region" },
                         { "env_var": "FLY_APP_NAME", "field_ref": "id" },
                         { "env_var": "ROLE", "field_ref": "metadata.role" },
                         { "env_var": "NONE", "field_ref": "metadata.none" }],
        }));
        let (image, facts, reference) = (&image, &facts, "web:1");
        let secrets = of_app(&[("D", "secret"), ("FLY_REGION", "secret"), ("S", "secret")]);
        let (init, secrets) = (Init::default(), &secrets);
        let scope = Scope { record: &record, facts, image, reference, init, secrets };
        let env = env(&scope, Some(&process.unwrap())).unwrap();
        let env: BTreeMap<_, _> = env.into_iter().collect();
        for (name, value) in [
            ("A", "config"),
            ("B", "process"),
            ("C", "image=x"),
            ("D", "secret"),
            ("S", "secret"),
            ("FLY_REGION", "here"),
            ("WHERE", "here"),
            ("ROLE", "primary"),
        ] {
            assert_eq!(env[name], value);
        }
        assert_eq!(env["FLY_APP_NAME"], "web");
        assert_eq!(env["PRIMARY_REGION"], "here");
        assert!(!env.contains_key("broken") && !env.contains_key("NONE"));
    }

    #[test]
    fn metadata_become_variables_where_that_is_wanted() {
        let mut record = sample();
        let pairs =
            [("role", "primary"), ("a.b-c", "1"), ("nul", "\0"), ("fly_process_group", "web")];
        record.config_mut().metadata = Some(pairs.map(|(k, v)| (k.into(), v.into())).into());
        assert_eq!(metadata_variables(&record), BTreeMap::new());
        record.config_mut().metadata_env = Some(true);
        let shown = metadata_variables(&record);
        let shown: Vec<_> = shown.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let want = "FLY_METADATA_A_B_C=1 FLY_METADATA_FLY_PROCESS_GROUP=web \
                    FLY_METADATA_ROLE=primary";
        assert_eq!(shown.join(" "), want);
    }

    #[test]
    fn a_role_of_aws_comes_with_a_token() {
        let mut record = sample();
        let (image, init) = (ImageConfig::default(), Init::default());
        let facts = HostFacts {
            region: "here",
            addresses: None,
            mtu: 1500,
            nameservers: Vec::new(),
            now_ns: 0,
            entropy: Vec::new(),
        };
        let secrets = of_app(&[]);
        let mut aws = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            record.config_mut().env = Some(pairs.collect());
            let (image, facts, secrets, init) = (&image, &facts, &secrets, init.clone());
            let scope = Scope { record: &record, facts, image, reference: "web:1", init, secrets };
            let env = env(&scope, None).unwrap();
            let own = env.iter().filter(|(name, _)| name.starts_with("AWS_"));
            let own: Vec<_> = own.map(|(name, value)| format!("{name}={value}")).collect();
            (own.join(" "), oidc_audience(&env))
        };
        assert_eq!(aws(&[]), (String::new(), None));
        assert_eq!(aws(&[("AWS_ROLE_ARN", "")]), ("AWS_ROLE_ARN=".into(), None));
        let (env, audience) = aws(&[("AWS_ROLE_ARN", "arn:x")]);
        let id = sample().id;
        let want = format!(
            "AWS_ROLE_ARN=arn:x AWS_ROLE_SESSION_NAME={id} \
             AWS_WEB_IDENTITY_TOKEN_FILE=/.fly/oidc_token"
        );
        assert_eq!((env, audience.as_deref()), (want, Some("sts.amazonaws.com")));
        // An app that has brought its own token keeps it.
        let own =
            [("AWS_ROLE_ARN", "arn:x"), (AWS_TOKEN_FILE, "/t"), ("AWS_ROLE_SESSION_NAME", "s")];
        let (env, audience) = aws(&own);
        let want = "AWS_ROLE_ARN=arn:x AWS_ROLE_SESSION_NAME=s AWS_WEB_IDENTITY_TOKEN_FILE=/t";
        assert_eq!((env.as_str(), audience), (want, None));
    }

    /// As a container with `secrets` is described.
    #[test]
    fn a_process_with_secrets_of_its_own_is_given_no_others() {
        let record = sample();
        let (image, init) = (ImageConfig::default(), Init::default());
        let facts = HostFacts {
            region: "here",
            addresses: None,
            mtu: 1500,
            nameservers: Vec::new(),
            now_ns: 0,
            entropy: Vec::new(),
        };
        let secrets = of_app(&[("A", "one"), ("B", "two")]);
        let (image, facts, reference, secrets) = (&image, &facts, "web:1", &secrets);
        let scope = Scope { record: &record, facts, image, reference, init, secrets };
        let given = |value: serde_json::Value| {
            let process: MachineProcess = serde_json::from_value(value).unwrap();
            let env = env(&scope, Some(&process))?;
            let own = env.into_iter().filter(|(name, _)| name.len() == 1);
            Ok::<_, String>(own.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>())
        };
        assert_eq!(given(json!({})).unwrap(), ["A=one", "B=two"]);
        let own = json!({
            "ignore_app_secrets": true, "secrets": [{ "env_var": "X", "name": "B" }],
        });
        assert_eq!(given(own).unwrap(), ["X=two"]);
        assert_eq!(given(json!({ "ignore_app_secrets": true })).unwrap(), [""; 0]);
        let absent = json!({ "secrets": [{ "env_var": "Z" }] });
        assert!(given(absent).unwrap_err().contains("no secret Z"));
    }

    #[test]
    fn a_single_process_is_the_main_process() {
        let argv_of = |config: serde_json::Value| {
            let config: wire::machines::MachineConfig = serde_json::from_value(config).unwrap();
            let image = ImageConfig {
                entrypoint: words(&["/entry"]),
                cmd: words(&["image"]),
                ..ImageConfig::default()
            };
            let process = config.processes.as_deref().and_then(<[_]>::first);
            let init = with_overrides(config.init.clone().unwrap_or_default(), process);
            argv(&init, &image).unwrap().join(" ")
        };
        for (init, process, expected) in [
            (json!({}), json!({}), "/entry image"),
            (json!({}), json!({ "cmd": ["sleep", "1"] }), "/entry sleep 1"),
            (json!({}), json!({ "exec": ["sh"], "cmd": [] }), "sh"),
            (json!({}), json!({ "entrypoint": ["/other"] }), "/other image"),
            (json!({ "exec": ["a"] }), json!({ "cmd": ["b"] }), "/entry b"),
            (json!({ "exec": ["a"] }), json!({ "user": "web" }), "a"),
            (json!({ "entrypoint": ["a"] }), json!({ "cmd": ["b"] }), "a b"),
        ] {
            let config = json!({ "image": "x", "init": init, "processes": [process] });
            assert_eq!(argv_of(config.clone()), expected, "{config}");
        }
    }
}
