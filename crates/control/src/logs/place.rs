//! How far a reader of an app's log has come: a time of each host, since lines have different
//! times on one host only.

use model::id::HostId;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Hosts that a text may name.
const MAX_HOSTS: usize = 1024;
/// Longest text of a time.
const DIGITS: usize = 19;

/// All lines up to these times, nanoseconds since the epoch, have been read.
///
/// Its text is opaque to clients. With one host it is its time, as Fly's `next_token`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The same of all hosts.
    Time(i64),
    /// By host. Of a host that is not named nothing has been read: it has joined since.
    Hosts(BTreeMap<HostId, i64>),
}

impl Place {
    /// The time of a host.
    pub fn of(&self, host: HostId) -> i64 {
        match self {
            Self::Time(time) => *time,
            Self::Hosts(hosts) => hosts.get(&host).copied().unwrap_or(0),
        }
    }

    /// The place with these times.
    pub fn of_hosts(hosts: BTreeMap<HostId, i64>) -> Self {
        match hosts.values().next() {
            Some(time) if hosts.len() == 1 => Self::Time(*time),
            _ => Self::Hosts(hosts),
        }
    }
}

impl fmt::Display for Place {
    /// A number, or `<host>.<number>` for each host, separated by `-`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = match self {
            Self::Time(time) => return write!(f, "{time}"),
            Self::Hosts(hosts) => hosts,
        };
        for (n, (HostId(host), time)) in hosts.iter().enumerate() {
            write!(f, "{}{host}.{time}", if n == 0 { "" } else { "-" })?;
        }
        Ok(())
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "must be what an earlier answer has given, or a time in nanoseconds \
                            since the epoch";
        let number = |text: &str| {
            let digits = text.len() <= DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<i64>().ok().filter(|_| digits).ok_or(RULE)
        };
        if !text.contains('.') {
            return number(text).map(Self::Time);
        }
        if text.split('-').count() > MAX_HOSTS {
            return Err(RULE);
        }
        let mut hosts = BTreeMap::new();
        for part in text.split('-') {
            let (host, time) = part.split_once('.').ok_or(RULE)?;
            let host = HostId(host.parse().map_err(|_| RULE)?);
            if hosts.insert(host, number(time)?).is_some() {
                return Err(RULE);
            }
        }
        Ok(Self::Hosts(hosts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        for text in ["0", "1800000000000000000", "0.17-3.0-12.9000000000000"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        let long = vec!["1.1"; 5000].join("-");
        for bad in
            ["", "x", "-1", "+1", "0.", ".1", "0.1-0.2", "70000.1", "99999999999999999999", &long]
        {
            assert!(bad.parse::<Place>().is_err(), "{bad:.20}");
        }
        let one = Place::of_hosts(BTreeMap::from([(HostId(3), 5)]));
        assert_eq!((one.to_string(), one.of(HostId(7))), ("5".into(), 5));
        let two: Place = "0.17-3.4".parse().unwrap();
        assert_eq!([0, 3, 4].map(|host| two.of(HostId(host))), [17, 4, 0]);
    }
}
