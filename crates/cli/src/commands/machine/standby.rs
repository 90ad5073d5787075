//! `--standby-for`: machines that another one stands by for.

use crate::complete;
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use clap::Args;
use client::Client;
use std::collections::BTreeMap;
use wire::machines::MachineConfig;

/// Variable by which a standby finds the machines that it stands by for, as flyctl sets it.
const VARIABLE: &str = "FLY_STANDBY_FOR";
/// Length of a machine's id, in hexadecimal digits.
const ID: usize = 14;

/// The flag.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct StandbyArgs {
    /// Make it a standby of this machine, which is not started by itself; may be repeated
    ///
    /// An empty value makes it an ordinary machine again.
    #[arg(long, value_name = "ID", value_delimiter = ',', add = complete::machines())]
    standby_for: Option<Vec<String>>,
}

impl StandbyArgs {
    /// Changes the config if the flag was given. `source` in the flag is the machine of this id.
    pub(crate) async fn apply(
        &self,
        config: &mut MachineConfig,
        client: &Client,
        app: &str,
        source: Option<&str>,
    ) -> Result<()> {
        let Some(named) = &self.standby_for else { return Ok(()) };
        let mut ids = Vec::new();
        for name in named.iter().filter(|name| !name.is_empty()) {
            ids.push(match source {
                Some(source) if name == "source" => source.to_owned(),
                _ => id_of(client, app, name).await?,
            });
        }
        let env = config.env.get_or_insert_with(BTreeMap::new);
        if ids.is_empty() {
            env.remove(VARIABLE);
            config.standbys = None;
        } else {
            env.insert(VARIABLE.to_owned(), ids.join(","));
            config.standbys = Some(ids);
        }
        if env.is_empty() {
            config.env = None;
        }
        Ok(())
    }
}

/// Configs have ids; a name is looked up.
async fn id_of(client: &Client, app: &str, name: &str) -> Result<String> {
    if name.len() == ID && name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(name.to_owned());
    }
    let machine = client.machine(app, name).await;
    Ok(machine.context(|| format!("find machine {name} of --standby-for"))?.id)
}

/// Whether a machine of this config is a standby.
pub(crate) fn is_standby(config: &MachineConfig) -> bool {
    config.standbys.as_ref().is_some_and(|of| !of.is_empty())
}

/// Shows that a standby is not started.
pub(crate) fn explain(cx: &mut Context<'_>, id: &str, config: &MachineConfig) {
    let of = config.standbys.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
    cx.ui().status(&format!("Machine {id} is a standby of {of} and is not started."));
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn applied(config: &str, flag: Option<&[&str]>) -> String {
        let mut config = serde_json::from_str(config).unwrap();
        // No call is made for ids.
        let client = Client::new("http://127.0.0.1:1", None).unwrap();
        let standby_for = flag.map(|flag| flag.iter().map(|&id| id.to_owned()).collect());
        let args = StandbyArgs { standby_for };
        args.apply(&mut config, &client, "web", Some("4d891234b04985")).await.unwrap();
        serde_json::to_string(&config).unwrap()
    }

    #[tokio::test]
    async fn a_standby_is_made_and_unmade() {
        let plain = r#"{"image":"x"}"#;
        assert_eq!(applied(plain, None).await, plain);
        let made = r#"{"image":"x","env":{"FLY_STANDBY_FOR":"4d891234b04985,3d8d413b29d089"},"standbys":["4d891234b04985","3d8d413b29d089"]}"#;
        assert_eq!(applied(plain, Some(&["source", "3d8d413b29d089"])).await, made);
        assert_eq!(applied(made, Some(&[""])).await, plain);
    }
}
