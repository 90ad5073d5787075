//! A length of time as the API writes it: nanoseconds or Go's notation.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::time::Duration;

/// A length of time, kept as the client wrote it so that it is returned
/// unchanged: an integer counts nanoseconds, a string is Go's `1m30s`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Span {
    /// Nanoseconds.
    Nanos(i64),
    /// Go's `time.Duration` notation, such as `"10s"` or `"1h2m0.5s"`.
    Text(String),
    /// An object around nanoseconds, as the published OpenAPI document has it.
    Object(SpanObject),
}

/// Nanoseconds in an object, as in <https://docs.machines.dev/spec/openapi3.json>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpanObject {
    /// Nanoseconds.
    #[serde(rename = "time.Duration")]
    pub nanos: i64,
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a duration must be a text such as \"10s\", nanoseconds, or \
                         {\"time.Duration\": nanoseconds}"
        )]
        enum Written {
            Nanos(i64),
            Text(String),
            Object(SpanObject),
        }
        Ok(match Written::deserialize(from)? {
            Written::Nanos(nanos) => Self::Nanos(nanos),
            Written::Text(text) => Self::Text(text),
            Written::Object(object) => Self::Object(object),
        })
    }
}

impl Span {
    /// The length, or `None` if the text is no Go duration or is negative.
    pub fn get(&self) -> Option<Duration> {
        match self {
            Self::Nanos(nanos) | Self::Object(SpanObject { nanos }) => {
                u64::try_from(*nanos).ok().map(Duration::from_nanos)
            }
            Self::Text(text) => parse_go(text),
        }
    }
}

/// Parses Go's duration notation: decimal numbers with a unit each (`ns`, `us`,
/// `µs`, `ms`, `s`, `m`, `h`), without sign; `"0"` is allowed without a unit.
pub fn parse_go(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        nanos += number * unit_nanos(&rest[..unit_len])?;
        rest = &rest[unit_len..];
    }
    let fits = !text.is_empty() && nanos.is_finite() && nanos < i64::MAX as f64;
    fits.then(|| Duration::from_nanos(nanos as u64))
}

fn unit_nanos(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations() {
        let ms = |text| parse_go(text).map(|d| d.as_millis());
        assert_eq!(ms("1s"), Some(1000));
        assert_eq!(ms("1m30s"), Some(90_000));
        assert_eq!(ms("0.5s"), Some(500));
        assert_eq!(ms("1h2m3ms"), Some(3_720_003));
        assert_eq!(ms("0"), Some(0));
        for bad in ["", "5", "s", "-1s", "1x", "1..2s", "99999999999999h"] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }
    #[test]
    fn durations_in_json() {
        let read = |json: &str| serde_json::from_str::<Span>(json);
        for (json, secs) in
            [("\"10s\"", 10), ("5000000000", 5), ("{\"time.Duration\":7000000000}", 7)]
        {
            let span = read(json).unwrap();
            assert_eq!(span.get(), Some(Duration::from_secs(secs)), "{json}");
            assert_eq!(serde_json::to_string(&span).unwrap(), json, "returned as it was written");
        }
        let refused = read("{\"seconds\":1}").unwrap_err().to_string();
        assert!(refused.starts_with("a duration must be a text such as \"10s\""), "{refused}");
    }
}
