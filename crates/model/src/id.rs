//! Names and numbers of things, each its own type, checked at the door.

use std::fmt;
use std::str::FromStr;

/// Text that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not valid: {rule}")]
pub struct BadId {
    what: &'static str,
    text: String,
    rule: &'static str,
}

fn bad(what: &'static str, text: &str, rule: &'static str) -> BadId {
    // Hostile input ends up in logs and answers: a short piece of it is enough.
    BadId { what, text: text.chars().take(80).collect(), rule }
}

/// Serializes an id as the text of its `Display`, and parses it back.
macro_rules! as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! number_id {
    ($name:ident, $number:ty, $doc:literal) => {
        #[doc = $doc]
        #[derive(
            Clone,
            Copy,
            Debug,
            Default,
            PartialEq,
            Eq,
            PartialOrd,
            Ord,
            Hash,
            serde::Serialize,
            serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $number);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number_id!(HostId, u16, "Number of a host in its platform; 0 is the first.");
number_id!(
    NetworkId,
    u32,
    "Number of a 6PN network in its platform; never used again for another."
);
number_id!(
    AppId,
    u32,
    "One app for its whole life. Its name may be used again once it is gone; its id never is."
);
number_id!(OrgId, u32, "One organization for its whole life, under any slug.");
number_id!(
    Epoch,
    u64,
    "How often the ownership of a machine has been decided. It grows by one each time its owner \
     changes; a host refuses calls that carry an older epoch than the one it knows."
);

/// One machine as its owner sees it: it keeps this id across every boot and
/// every change of its host.
///
/// 56 random bits, written as 14 lower-case hex digits. The id reveals nothing
/// about the host; the machine's record in the store names its owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(u64);

impl MachineId {
    /// An id of the low 56 bits of `random`.
    pub fn from_random(random: u64) -> Self {
        Self(random & ((1 << 56) - 1))
    }

    /// The number of the host in the upper 16 bits of ids that were made while ids
    /// still named their host. Only a migration of such records may ask.
    pub fn legacy_host(self) -> HostId {
        HostId((self.0 >> 40) as u16)
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:014x}", self.0)
    }
}

impl fmt::Debug for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MachineId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 14 || !text.bytes().all(hex) {
            return Err(bad("machine id", text, "14 lower-case hex digits"));
        }
        let number = u64::from_str_radix(text, 16);
        number.map(Self).map_err(|_| bad("machine id", text, "14 lower-case hex digits"))
    }
}

as_text!(MachineId);

/// One release of an app: 96 random bits, written as `rel_` and 24 lower-case hex digits. The id
/// reveals nothing about its app, and no id of another kind looks like it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseId(u128);

impl ReleaseId {
    /// An id of the low 96 bits of `random`.
    pub fn from_random(random: u128) -> Self {
        Self(random & ((1 << 96) - 1))
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rel_{:024x}", self.0)
    }
}

impl fmt::Debug for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ReleaseId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let not_one = || bad("release id", text, "rel_ and 24 lower-case hex digits");
        let digits = text.strip_prefix("rel_").ok_or_else(not_one)?;
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if digits.len() != 24 || !digits.bytes().all(hex) {
            return Err(not_one());
        }
        u128::from_str_radix(digits, 16).map(Self).map_err(|_| not_one())
    }
}

as_text!(ReleaseId);

/// One volume for its whole life, on whichever host: 16 random characters of `a` to `z` and `0` to
/// `9` behind `vol_`. The id reveals nothing about its host or its app.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId(u128);

impl VolumeId {
    /// How many ids there are.
    const COUNT: u128 = 36_u128.pow(16);

    /// An id that follows from `random`.
    pub fn from_random(random: u128) -> Self {
        Self(random % Self::COUNT)
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("vol_")?;
        (0..16).rev().try_for_each(|place| {
            let digit = u32::try_from(self.0 / 36_u128.pow(place) % 36).unwrap_or(0);
            write!(f, "{}", char::from_digit(digit, 36).unwrap_or('0'))
        })
    }
}

impl fmt::Debug for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VolumeId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let not_one = || bad("volume id", text, "vol_ and 16 lower-case letters and digits");
        let digits = text.strip_prefix("vol_").ok_or_else(not_one)?;
        let own = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
        if digits.len() != 16 || !digits.bytes().all(own) {
            return Err(not_one());
        }
        u128::from_str_radix(digits, 36).map(Self).map_err(|_| not_one())
    }
}

as_text!(VolumeId);

macro_rules! ulid_id {
    ($name:ident, $what:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(ulid::Ulid);

        impl $name {
            /// From the time in milliseconds since the epoch and 80 random bits.
            pub fn new(ms: u64, random: u128) -> Self {
                Self(ulid::Ulid::from_parts(ms, random))
            }

            /// The time and the random bits it was made from.
            pub fn parts(self) -> (u64, u128) {
                (self.0.timestamp_ms(), self.0.random())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let id = ulid::Ulid::from_string(text);
                id.map(Self).map_err(|_| bad($what, text, "a ULID of 26 characters"))
            }
        }

        as_text!($name);
    };
}

ulid_id!(InstanceId, "instance id", "A version of a machine's config.");
ulid_id!(BootId, "boot id", "One run of a machine's VM on one host; a restart gets a new one.");
ulid_id!(EventId, "event id", "One entry of a machine's event list; grows with time.");

macro_rules! name_type {
    ($name:ident, $what:literal, $max:literal, $doc:literal) => {
        name_type!(
            $name,
            $what,
            $max,
            is_label,
            "lower-case letters, digits and dashes, neither beginning nor ending with a dash",
            $doc
        );
    };
    ($name:ident, $what:literal, $max:literal, $valid:ident, $chars:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let rule = concat!("1 to ", $max, " ", $chars);
                if $valid(text, $max) { Ok(Self(text.into())) } else { Err(bad($what, text, rule)) }
            }
        }

        as_text!($name);
    };
}

// The longest names leave room for `<app>` as one DNS label (63).
name_type!(
    AppName,
    "app name",
    63,
    "Name of an app, unique on the platform; one DNS label (RFC 1035, section 2.3.1)."
);
name_type!(OrgSlug, "organization", 63, "Name of an organisation in paths.");
name_type!(
    MachineName,
    "machine name",
    63,
    is_machine_name,
    "letters, digits, dashes, dots and underscores, neither beginning nor ending with a dash or dot",
    "Name of a machine, unique in its app; it is in no DNS record."
);
name_type!(NetworkName, "network", 63, "Name of a 6PN network, unique in its org.");
name_type!(RegionCode, "region", 20, "Code of a region, chosen by the operator.");

fn is_label(text: &str, max: usize) -> bool {
    is_name(text, max, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_machine_name(text: &str, max: usize) -> bool {
    is_name(text, max, |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !text.starts_with('.')
        && !text.ends_with('.')
}

fn is_name(text: &str, max: usize, allowed: impl Fn(u8) -> bool) -> bool {
    (1..=max).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_id_is_56_bits() {
        let id = MachineId::from_random(0xffab_cd00_0000_0001);
        assert_eq!(id.to_string(), "abcd0000000001");
        assert_eq!("abcd0000000001".parse(), Ok(id));
        assert_eq!(id.legacy_host(), HostId(0xabcd));
    }

    #[test]
    fn a_release_id_is_96_bits() {
        let id = ReleaseId::from_random(u128::MAX - 1);
        assert_eq!(id.to_string(), "rel_fffffffffffffffffffffffe");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "rel_", "rel_0", "fffffffffffffffffffffffe", "rel_FFFFFFFFFFFFFFFFFFFFFFFE"]
        {
            assert!(bad.parse::<ReleaseId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_that_are_refused() {
        for bad in ["", "abc", "ABCDFFFFFFFFFF", "0123456789abcg", "+123456789abcd"] {
            assert!(bad.parse::<MachineId>().is_err(), "{bad}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", "../x", &"a".repeat(64)] {
            assert!(bad.parse::<AppName>().is_err(), "{bad}");
        }
        assert!("not-a-ulid".parse::<BootId>().is_err());
        for bad in ["", "-a", "a-", ".a", "a.", ".", "..", "a b", "ä", "../x", &"a".repeat(64)] {
            assert!(bad.parse::<MachineName>().is_err(), "{bad}");
        }
        for good in ["agent-sandbox_3f2a", "Web_1", "db-10.0.0.1", "_", "0", &"A".repeat(63)] {
            assert!(good.parse::<MachineName>().is_ok(), "{good}");
        }
    }

    #[test]
    fn a_complaint_quotes_little_of_the_input() {
        let err = "x".repeat(10_000).parse::<AppName>().unwrap_err();
        assert!(err.to_string().len() < 300);
    }
}
