//! Which secrets a machine and its processes are given.

use crate::record::Record;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use host_api::ScopedSecret;
use std::collections::BTreeMap;
use wire::machines::ProcessSecret;
use wire::secret::Secret;
use wire::secrets::SecretScope;

/// The secrets that one boot of a machine is given, by name.
#[derive(Debug, Default)]
pub(crate) struct MachineSecrets {
    /// Version of the app's secrets; 0 if there are none.
    pub(crate) version: u64,
    by_name: BTreeMap<String, Secret>,
}

impl MachineSecrets {
    /// Those of the app that are for this machine. Of one name, a secret for the machine
    /// wins over one for its group, and that over one for the app.
    pub(super) fn of(record: &Record, version: u64, secrets: Vec<ScopedSecret>) -> Self {
        let (id, group) = (record.id.to_string(), record.process_group());
        let rank = |scope: &Option<SecretScope>| match scope {
            None => Some(0),
            Some(SecretScope::Group(name)) => (name == group).then_some(1),
            Some(SecretScope::Machine(of)) => (*of == id).then_some(2),
        };
        let ranked = secrets.into_iter().filter_map(|secret| Some((rank(&secret.scope)?, secret)));
        let mut ranked: Vec<(u8, ScopedSecret)> = ranked.collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let by_name = ranked.into_iter().map(|(_, secret)| (secret.name, secret.value)).collect();
        Self { version, by_name }
    }

    /// Environment variables of one process: the app's secrets unless it ignores them, and
    /// those that it names. The error names what is missing.
    pub(crate) fn environment(
        &self,
        ignore_app_secrets: bool,
        named: &[ProcessSecret],
    ) -> Result<BTreeMap<String, String>, String> {
        let all = self.by_name.iter().filter(|_| !ignore_app_secrets);
        let mut env: BTreeMap<_, _> =
            all.map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
        for ProcessSecret { env_var, name, .. } in named {
            let name = name.as_deref().filter(|name| !name.is_empty()).unwrap_or(env_var);
            let value = self.by_name.get(name);
            let value = value.ok_or_else(|| format!("its app has no secret {name} for it"))?;
            env.insert(env_var.clone(), value.expose().to_owned());
        }
        Ok(env)
    }

    /// Content of a file that a secret holds in base64.
    pub(crate) fn file(&self, name: &str) -> Result<Vec<u8>, String> {
        let value = self.by_name.get(name);
        let value = value.ok_or_else(|| format!("its app has no secret {name} for it"))?;
        // The error of the decoder has a byte of the value.
        let decoded = STANDARD.decode(value.expose().trim_ascii_end());
        decoded.map_err(|_| format!("the value of the secret {name} is not base64"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::tests::sample;

    /// Secrets for the whole app.
    pub(crate) fn of_app(pairs: &[(&str, &str)]) -> MachineSecrets {
        let all = pairs.iter().map(|(name, value)| secret(name, None, value)).collect();
        MachineSecrets::of(&sample(), 7, all)
    }

    fn secret(name: &str, scope: Option<SecretScope>, value: &str) -> ScopedSecret {
        ScopedSecret { name: name.into(), scope, value: Secret::new(value) }
    }

    fn process_secret(env_var: &str, name: Option<&str>) -> ProcessSecret {
        ProcessSecret {
            env_var: env_var.into(),
            name: name.map(str::to_owned),
            ..ProcessSecret::default()
        }
    }

    #[test]
    fn the_narrowest_scope_wins() {
        let mut record = sample();
        let (own, group) = (SecretScope::Machine(record.id.to_string()), SecretScope::Group);
        let all = || {
            vec![
                secret("A", Some(own.clone()), "machine"),
                secret("A", Some(group("worker".into())), "group"),
                secret("A", None, "app"),
                secret("B", Some(group("worker".into())), "group"),
                secret("B", None, "app"),
                secret("C", Some(SecretScope::Machine("another".into())), "machine"),
                secret("D", Some(group("app".into())), "default group"),
            ]
        };
        let env = |record: &Record| {
            let env = MachineSecrets::of(record, 1, all()).environment(false, &[]).unwrap();
            env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(env(&record), "A=machine B=app D=default group");
        record.config_mut().metadata = Some([("fly_process_group".into(), "worker".into())].into());
        assert_eq!(env(&record), "A=machine B=group");
    }

    #[test]
    fn a_process_may_name_its_secrets() {
        let secrets = of_app(&[("A", "1"), ("B", "2")]);
        let env = |ignore, named: &[ProcessSecret]| {
            let env = secrets.environment(ignore, named)?;
            let pairs = env.iter().map(|(name, value)| format!("{name}={value}"));
            Ok::<_, String>(pairs.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(env(false, &[]).unwrap(), "A=1 B=2");
        assert_eq!(env(true, &[]).unwrap(), "");
        let named = [process_secret("X", Some("A")), process_secret("B", Some(""))];
        assert_eq!(env(true, &named).unwrap(), "B=2 X=1");
        assert_eq!(env(false, &named).unwrap(), "A=1 B=2 X=1");
        let missing = env(true, &[process_secret("C", None)]).unwrap_err();
        assert_eq!(missing, "its app has no secret C for it");
    }

    #[test]
    fn a_file_is_base64() {
        let secrets = of_app(&[("GOOD", "aGk=\n"), ("BAD", "hi!")]);
        assert_eq!(secrets.file("GOOD").unwrap(), b"hi");
        assert_eq!(secrets.file("BAD").unwrap_err(), "the value of the secret BAD is not base64");
        assert_eq!(secrets.file("NONE").unwrap_err(), "its app has no secret NONE for it");
    }
}
