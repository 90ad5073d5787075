//! Query strings: read by name, any key may be repeated.

use crate::Error;
use axum::extract::{FromRequestParts, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use std::str::FromStr;
use std::time::Duration;

/// All pairs of the query string, in order.
pub(in crate::http_api) struct Params(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        Self::of(&parts.uri)
    }
}

impl Params {
    /// The query of a URI.
    pub(in crate::http_api) fn of(uri: &Uri) -> Result<Self, Error> {
        let pairs = Query::try_from_uri(uri);
        let Query(pairs) = pairs.map_err(|err| Error::invalid("query", err.to_string()))?;
        Ok(Self(pairs))
    }

    /// All names, in order.
    pub(in crate::http_api) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Whether the key is there, also with an empty value.
    pub(in crate::http_api) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// The first value that is not empty.
    pub(in crate::http_api) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values that are not empty.
    pub(in crate::http_api) fn all<'a, 'n>(
        &'a self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let named = self.0.iter().filter(move |(key, value)| key == name && !value.is_empty());
        named.map(|(_, value)| value.as_str())
    }

    /// All values, those with commas split.
    pub(in crate::http_api) fn list(&self, name: &str) -> Vec<String> {
        let parts = self.all(name).flat_map(|value| value.split(','));
        parts.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// Values by the rest of the key after `prefix`.
    pub(in crate::http_api) fn prefixed<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str())))
    }

    /// A switch: set without a value, or with one that means yes.
    pub(in crate::http_api) fn flag(&self, name: &str) -> Result<bool, Error> {
        let Some((_, value)) = self.0.iter().find(|(key, _)| key == name) else { return Ok(false) };
        match value.to_ascii_lowercase().as_str() {
            "" | "1" | "true" | "t" | "yes" => Ok(true),
            "0" | "false" | "f" | "no" => Ok(false),
            _ => Err(Error::invalid(name, "must be true or false")),
        }
    }

    /// A number.
    pub(in crate::http_api) fn number<N: FromStr>(&self, name: &str) -> Result<Option<N>, Error> {
        let parsed = self.get(name).map(str::parse::<N>).transpose();
        parsed.map_err(|_| Error::invalid(name, "must be a number in range"))
    }

    /// A length of time: seconds, or Go's notation.
    pub(in crate::http_api) fn duration(&self, name: &str) -> Result<Option<Duration>, Error> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let secs = text.parse::<u64>().ok().map(Duration::from_secs);
        let length = secs.or_else(|| wire::machines::parse_go(text));
        let why = || Error::invalid(name, "must be seconds or a duration such as 10s");
        length.ok_or_else(why).map(Some)
    }
}
