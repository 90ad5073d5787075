//! Where the text of a setting comes from: flag, variable, file or default.

use super::keys::{RENAMED, SETTINGS, Setting, is_section, variable};
use clap::{Arg, ArgMatches, Command};
use std::collections::BTreeMap;

/// The flags of all settings, as given.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingArgs(BTreeMap<String, String>);

impl SettingArgs {
    #[cfg(test)]
    pub(crate) fn from_pairs(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }
}

impl clap::Args for SettingArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config").long("config").value_name("FILE");
        let config = config.help("TOML file with any of these settings [env: UPDRAFT_CONFIG]");
        SETTINGS.iter().fold(command.arg(config), |command, setting| {
            let default = match setting.default {
                "" => String::new(),
                text => format!(" [default: {text}]"),
            };
            let help = format!("{}{default} [env: {}]", setting.help, setting.variable());
            let arg = Arg::new(setting.name).long(setting.name).value_name(setting.value);
            command.arg(setting.earlier().fold(arg.help(help), Arg::alias))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let names = SETTINGS.iter().map(|setting| setting.name).chain(["config"]);
        let given = names.filter_map(|name| Some((name, matches.get_one::<String>(name)?)));
        Ok(Self(given.map(|(name, value)| (name.to_owned(), value.clone())).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A text and where it was given.
#[derive(Clone, Debug)]
struct Given {
    text: String,
    source: String,
}

/// Each setting's text and source, by its key.
pub(super) struct Layers(BTreeMap<&'static str, Given>);

impl Layers {
    /// Flag, else variable, else file, else default.
    pub(super) fn gather(
        args: &SettingArgs,
        vars: &BTreeMap<String, String>,
    ) -> Result<Self, Vec<String>> {
        let set = |variable: &str| vars.get(variable).filter(|value| !value.is_empty());
        let file = match args.0.get("config").or_else(|| set("UPDRAFT_CONFIG")) {
            Some(path) => read_file(path)?,
            None => BTreeMap::new(),
        };
        let given = |setting: &Setting| {
            if let Some(text) = args.0.get(setting.name) {
                return Given { text: text.clone(), source: format!("--{}", setting.name) };
            }
            let names = std::iter::once(setting.name).chain(setting.earlier()).map(variable);
            let mut of_vars = names.filter_map(|name| Some((set(&name)?.clone(), name)));
            if let Some((text, source)) = of_vars.next() {
                return Given { text, source };
            }
            file.get(setting.key).cloned().unwrap_or_else(|| Given {
                text: setting.default.to_owned(),
                source: format!("the default of {}", setting.key),
            })
        };
        Ok(Self(SETTINGS.iter().map(|setting| (setting.key, given(setting))).collect()))
    }

    pub(super) fn get(&self, key: &str) -> &str {
        &self.entry(key).text
    }

    /// A path, if one is given.
    pub(super) fn path(&self, key: &str) -> Option<camino::Utf8PathBuf> {
        Some(self.get(key)).filter(|path| !path.is_empty()).map(Into::into)
    }

    fn entry(&self, key: &str) -> &Given {
        self.0.get(key).expect("every setting that is read is in the table")
    }

    pub(super) fn complaint(&self, key: &str, why: &str) -> String {
        let Given { text, source } = self.entry(key);
        format!("{source} {text:?}: {why}")
    }

    /// The parsed value; after a complaint any value will do, since the
    /// settings are then refused as a whole: the default's.
    pub(super) fn parse<T>(
        &self,
        key: &str,
        problems: &mut Vec<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        parse(self.get(key)).unwrap_or_else(|why| {
            problems.push(self.complaint(key, &why));
            let known = SETTINGS.iter().find(|setting| setting.key == key);
            let default = known.map_or("", |setting| setting.default);
            parse(default).unwrap_or_else(|_| unreachable!("the default of {key} is valid"))
        })
    }

    /// The parsed items of a list, separated by commas; may be empty. Every item
    /// that is wrong is complained about.
    pub(super) fn parse_list<T>(
        &self,
        key: &str,
        problems: &mut Vec<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let items = self.get(key).split(',').map(str::trim).filter(|item| !item.is_empty());
        let mut values = Vec::new();
        for item in items {
            match parse(item) {
                Ok(value) => values.push(value),
                Err(why) => problems.push(self.complaint(key, &format!("{item}: {why}"))),
            }
        }
        values
    }
}

/// The texts of a file, by key. Accepts sections, and the flat keys of earlier
/// versions.
fn read_file(path: &str) -> Result<BTreeMap<&'static str, Given>, Vec<String>> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|err| vec![format!("config file {path} cannot be read: {err}")])?;
    let table: toml::Table =
        text.parse().map_err(|err| vec![format!("config file {path} does not parse: {err}")])?;
    let mut found = BTreeMap::new();
    let mut problems = Vec::new();
    for (written, value) in flatten(table) {
        let Some(setting) = find(&written) else {
            let hint = hint(&written);
            problems.push(format!("config file {path}: there is no setting {written:?}{hint}"));
            continue;
        };
        let Some(text) = plain(&value) else {
            let kind = "has to be a text, a number, true or false, or a list of such";
            problems.push(format!("config file {path}: {written} {kind}"));
            continue;
        };
        let given = Given { text, source: format!("{path}: {written}") };
        if found.insert(setting.key, given).is_some() {
            problems.push(format!("config file {path}: {} is given twice", setting.key));
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

/// `section.key` and value; keys outside of sections as they are.
fn flatten(table: toml::Table) -> Vec<(String, toml::Value)> {
    let mut flat = Vec::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) if is_section(&key) => {
                flat.extend(
                    inner.into_iter().map(|(name, value)| (format!("{key}.{name}"), value)),
                );
            }
            value => flat.push((key, value)),
        }
    }
    flat
}

/// The setting that a key of the file names; dashes and underscores are the same.
fn find(written: &str) -> Option<&'static Setting> {
    let (snake, kebab) = (written.replace('-', "_"), written.replace('_', "-"));
    let renamed = RENAMED.iter().find(|(old, _)| *old == kebab).map(|(_, new)| *new);
    let name = renamed.unwrap_or(&kebab);
    SETTINGS.iter().find(|setting| setting.key == snake || setting.name == name)
}

/// The key that is spelt most like this one, if one is near.
fn hint(written: &str) -> String {
    let alike = |setting: &Setting| {
        let last = setting.key.rsplit('.').next().unwrap_or_default();
        let names = [setting.key, setting.name, last];
        names.map(|name| strsim::jaro_winkler(name, written)).into_iter().fold(0.0, f64::max)
    };
    let best = SETTINGS.iter().map(|setting| (alike(setting), setting.key));
    match best.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((alike, key)) if alike > 0.8 => format!("; did you mean {key}?"),
        _ => "; `updraft up --help` lists all settings".to_owned(),
    }
}

/// A value as the text that a flag would have.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(plain).collect();
            Some(items?.join(","))
        }
        // A peer: `[[peers]]` with number, name and address.
        toml::Value::Table(table) if table.len() == 3 => {
            let field = |name: &str| table.get(name)?.as_str();
            let number = table.get("number")?.as_integer()?;
            Some(format!("{number}:{}={}", field("name")?, field("address")?))
        }
        _ => None,
    }
}
