//! How far a watch has come with each host: the id of an event of a watch, opaque to clients.

use model::id::HostId;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Hosts that an id may name.
const MAX_HOSTS: usize = 1024;

/// The number of the newest event that has been passed on, by host. `None` where a host has
/// not answered yet since the watch began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Positions(pub(super) BTreeMap<HostId, Option<u64>>);

impl fmt::Display for Positions {
    /// `<host>.<number>` for each host, separated by `-`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (HostId(host), number)) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "-" };
            match number {
                Some(number) => write!(f, "{separator}{host}.{number}")?,
                None => write!(f, "{separator}{host}.x")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Positions {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "must be the id of an event that a watch has sent";
        if text.split('-').count() > MAX_HOSTS {
            return Err(RULE);
        }
        let mut positions = BTreeMap::new();
        for part in text.split('-') {
            let (host, number) = part.split_once('.').ok_or(RULE)?;
            let host = HostId(host.parse().map_err(|_| RULE)?);
            let number = match number {
                "x" => None,
                number => Some(number.parse::<u64>().map_err(|_| RULE)?),
            };
            // SQLite's integers have a sign.
            if number.is_some_and(|n| n > i64::MAX as u64)
                || positions.insert(host, number).is_some()
            {
                return Err(RULE);
            }
        }
        Ok(Self(positions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written() {
        for text in ["0.0", "0.17-3.x-12.9000000000000"] {
            assert_eq!(text.parse::<Positions>().unwrap().to_string(), text);
        }
        let long = vec!["1.1"; 5000].join("-");
        for bad in
            ["", "x", "0", "0.", ".1", "0.1-0.2", "0.-1", "70000.1", "0.9223372036854775808", &long]
        {
            assert!(bad.parse::<Positions>().is_err(), "{bad:.20}");
        }
    }
}
