//! Region expressions: codes and groups in order of preference
//! (<https://fly.io/docs/machines/guides-examples/machine-placement/>).

use crate::Error;
use host_api::HostInfo;
use model::id::RegionCode;
use model::region::{GROUPS, city};

/// Regions of one expression.
const MAX_REGIONS: usize = 100;

/// What a machine may be placed in, best first; nothing stands for every region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Regions(Vec<Choice>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    Any,
    /// Of the API that was called.
    Nearest,
    /// A code, an alias of one host's region or a group.
    Named(String),
}

/// How well a host fits: the position in the expression, and the code of its region that the
/// machine is to have. `None`: that of its host.
pub(super) type Match = (usize, Option<String>);

impl Regions {
    /// Parses `iad,dfw`, `eu`, `[nearest],any`. Brackets have no meaning here.
    ///
    /// # Errors
    /// A part is neither a code nor a word, or there are too many; `field` is named.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        let parts = text.split(',').map(|part| part.trim_matches(['[', ']', ' ']));
        let choices: Vec<Choice> = parts
            .filter(|part| !part.is_empty())
            .map(|part| match part {
                "any" => Ok(Choice::Any),
                "nearest" => Ok(Choice::Nearest),
                code => code.parse::<RegionCode>().map(|code| Choice::Named(code.to_string())),
            })
            .collect::<Result<_, _>>()
            .map_err(|err| Error::invalid(field, err.to_string()))?;
        if choices.len() > MAX_REGIONS {
            return Err(Error::invalid(field, format!("must have at most {MAX_REGIONS} regions")));
        }
        Ok(Self(choices))
    }

    /// The first choice that the host answers to.
    pub(super) fn find(&self, host: &HostInfo, nearest: &str) -> Option<Match> {
        if self.0.is_empty() {
            return Some((0, None));
        }
        let code = |choice: &Choice| match choice {
            Choice::Any => Some(None),
            Choice::Nearest => own_code(host, nearest).map(Some),
            Choice::Named(name) => own_code(host, name).map(Some),
        };
        self.0.iter().enumerate().find_map(|(rank, choice)| Some((rank, code(choice)?)))
    }
}

impl std::fmt::Display for Regions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = self.0.iter().map(|choice| match choice {
            Choice::Any => "any",
            Choice::Nearest => "nearest",
            Choice::Named(name) => name,
        });
        f.write_str(&words.collect::<Vec<_>>().join(","))
    }
}

/// The code that a machine has on a host that it was placed on by `name`: `name` itself if it is
/// one of the host's, that of the host's region for an alias, or one in a group.
fn own_code(host: &HostInfo, name: &str) -> Option<String> {
    if codes(host).any(|code| code == name) {
        return Some(name.to_owned());
    }
    if host.region_aliases.iter().any(|alias| alias == name) {
        return Some(host.region.clone());
    }
    let is_in_group = |code: &&str| city(code).is_some_and(|city| city.part.is_in(name));
    let found = GROUPS.contains(&name).then(|| codes(host).find(is_in_group)).flatten();
    found.map(str::to_owned)
}

/// The codes of a host: of its region, then further ones.
pub(crate) fn codes(host: &HostInfo) -> impl Iterator<Item = &str> {
    std::iter::once(&host.region).chain(&host.region_codes).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_the_code_that_it_was_asked_for() {
        let host = HostInfo {
            region: "local".into(),
            region_codes: vec!["iad".into(), "ams".into()],
            region_aliases: vec!["lab".into()],
            ..HostInfo::default()
        };
        for (expression, found) in [
            ("", Some((0, None))),
            ("any", Some((0, None))),
            ("ams", Some((0, Some("ams")))),
            ("fra, iad", Some((1, Some("iad")))),
            ("lab", Some((0, Some("local")))),
            ("eu", Some((0, Some("ams")))),
            ("us", Some((0, Some("iad")))),
            ("sa,any", Some((1, None))),
            ("[nearest],any", Some((0, Some("local")))),
            ("fra", None),
            ("apac", None),
        ] {
            let regions = Regions::parse("region", expression).unwrap();
            let found = found.map(|(rank, code)| (rank, code.map(str::to_owned)));
            assert_eq!(regions.find(&host, "local"), found, "{expression}");
        }
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for (text, why) in [
            ("iad;ams", "region"),
            ("IAD", "region"),
            (&vec!["iad"; 101].join(","), "at most 100 regions"),
        ] {
            let refused = Regions::parse("region", text).unwrap_err().to_string();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }
}
