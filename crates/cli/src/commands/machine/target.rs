//! What flags about the image, the process and the files of a config change: the machine
//! itself, or one of its containers.

use crate::error::{CliError, Result};
use wire::machines::{Container, File, Init, MachineConfig};

/// The container that is changed if none is named and there is one of this name
/// (<https://fly.io/docs/flyctl/machine-update/>).
const DEFAULT: &str = "app";

/// A machine without containers, or one container.
#[derive(Debug)]
pub(crate) enum Target<'a> {
    Machine(&'a mut MachineConfig),
    Container(&'a mut Container),
}

impl<'a> Target<'a> {
    /// The named container; without a name `app`, else the first one, if there are any.
    pub(crate) fn of(config: &'a mut MachineConfig, name: Option<&str>) -> Result<Self> {
        let containers = config.containers.as_deref().unwrap_or_default();
        let place = |name: &str| containers.iter().position(|one| one.name == name);
        let at = match name {
            Some(name) => Some(place(name).ok_or_else(|| missing(name, containers))?),
            None => place(DEFAULT).or((!containers.is_empty()).then_some(0)),
        };
        match at {
            Some(at) => match config.containers.as_mut().and_then(|all| all.get_mut(at)) {
                Some(container) => Ok(Self::Container(container)),
                None => Err(CliError::failed("The containers of the config changed meanwhile")),
            },
            None => Ok(Self::Machine(config)),
        }
    }

    pub(crate) fn set_image(&mut self, image: &str) {
        match self {
            Self::Machine(config) => image.clone_into(&mut config.image),
            Self::Container(container) => container.image = Some(image.to_owned()),
        }
    }

    pub(crate) fn set_command(&mut self, words: Option<Vec<String>>) {
        match self {
            Self::Machine(config) => config.init.get_or_insert_with(Init::default).cmd = words,
            Self::Container(container) => container.cmd = words,
        }
    }

    /// Removes what replaces entrypoint and command.
    pub(crate) fn clear_exec(&mut self) {
        match self {
            Self::Machine(config) => {
                if let Some(init) = &mut config.init {
                    init.exec = None;
                }
            }
            Self::Container(container) => container.exec = None,
        }
    }

    pub(crate) fn set_entrypoint(&mut self, words: Option<Vec<String>>) {
        match self {
            Self::Machine(config) => {
                config.init.get_or_insert_with(Init::default).entrypoint = words;
            }
            Self::Container(container) => container.entrypoint = words,
        }
    }

    /// Adds files; one of the same path is replaced.
    pub(crate) fn add_files(&mut self, files: Vec<File>) {
        let all = match self {
            Self::Machine(config) => &mut config.files,
            Self::Container(container) => &mut container.files,
        };
        let all = all.get_or_insert_default();
        all.retain(|old| files.iter().all(|new| new.guest_path != old.guest_path));
        all.extend(files);
    }
}

fn missing(name: &str, containers: &[Container]) -> CliError {
    let error = CliError::usage(format!("There is no container {name} in the config"));
    let names: Vec<&str> = containers.iter().map(|one| one.name.as_str()).collect();
    match names.is_empty() {
        true => error.hint("The config has no containers: leave --container out."),
        false => error.hint(format!("There are {}.", names.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(config: &str, name: Option<&str>) -> Result<String> {
        let mut config: MachineConfig = serde_json::from_str(config).unwrap();
        let mut target = Target::of(&mut config, name)?;
        target.set_image("new");
        target.set_command(Some(vec!["run".into()]));
        target.add_files(vec![File { guest_path: "/f".into(), ..File::default() }]);
        Ok(serde_json::to_string(&config).unwrap())
    }

    #[test]
    fn the_machine_or_the_container_that_is_meant() {
        let two = r#"{"image":"","containers":[{"name":"db"},{"name":"app"}]}"#;
        let new = r#""image":"new","cmd":["run"],"files":[{"guest_path":"/f"}]"#;
        for (config, name, expected) in [
            (
                r#"{"image":"old"}"#,
                None,
                r#"{"image":"new","init":{"cmd":["run"]},"files":[{"guest_path":"/f"}]}"#
                    .to_owned(),
            ),
            (
                two,
                None,
                format!(r#"{{"image":"","containers":[{{"name":"db"}},{{"name":"app",{new}}}]}}"#),
            ),
            (
                two,
                Some("db"),
                format!(r#"{{"image":"","containers":[{{"name":"db",{new}}},{{"name":"app"}}]}}"#),
            ),
            (
                r#"{"image":"","containers":[{"name":"one"}]}"#,
                None,
                format!(r#"{{"image":"","containers":[{{"name":"one",{new}}}]}}"#),
            ),
        ] {
            assert_eq!(changed(config, name).unwrap(), expected, "{config} {name:?}");
        }
        let unknown = changed(two, Some("x")).unwrap_err();
        assert_eq!(unknown.hints, ["There are db, app."]);
        assert!(changed(r#"{"image":"x"}"#, Some("x")).unwrap_err().hints[0].contains("leave"));
    }
}
