//! One request: on whose behalf, and what it has come to so far.

use super::errors::mark;
use crate::access::{Need, Place, authorize};
use crate::tokens::Found;
use crate::{Error, Kind, Platform};
use apollo_compiler::resolvers::FieldError;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use wire::machines::Machine;

/// Fields that are answered for one request, those of each entry of a list counted.
const MAX_STEPS: usize = 100_000;
/// Bytes of their values: an alias may repeat a large one.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Newest machines by the names of their apps.
pub(super) type Newest = Arc<HashMap<String, Machine>>;

/// One request.
pub(super) struct Session {
    /// The platform on behalf of the caller.
    pub(super) platform: Platform,
    /// The tokens of the request.
    pub(super) tokens: Arc<[Found]>,
    failures: Mutex<Vec<Error>>,
    steps: AtomicUsize,
    bytes: AtomicUsize,
    /// The organization that the request has changed.
    about: Arc<Mutex<Option<String>>>,
    /// By the slug of an organization.
    newest: tokio::sync::Mutex<HashMap<String, Newest>>,
}

impl Session {
    pub(super) fn new(platform: Platform, tokens: Arc<[Found]>) -> Self {
        Self {
            platform,
            tokens,
            failures: Mutex::default(),
            steps: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            about: Arc::default(),
            newest: tokio::sync::Mutex::default(),
        }
    }

    /// The same for one mutation, which a token may be limited to.
    pub(super) fn of_mutation(&self, name: &str) -> Self {
        let own = Self::new(self.platform.for_mutation(name), self.tokens.clone());
        Self { about: self.about.clone(), ..own }
    }

    /// The caller may do this to the app, organization or machine of `place`.
    ///
    /// # Errors
    /// It may not, or there is no such app or organization for it.
    pub(super) async fn may(&self, need: Need, place: Place) -> Result<(), Error> {
        authorize(&self.platform, &need, &place).await
    }

    /// The same for an app.
    pub(super) async fn may_app(&self, need: Need, app: &str) -> Result<(), Error> {
        self.may(need, Place { app: Some(app.to_owned()), ..Place::default() }).await
    }

    /// The same for an organization.
    pub(super) async fn may_org(&self, need: Need, org: &str) -> Result<(), Error> {
        self.may(need, Place { org: Some(org.to_owned()), ..Place::default() }).await
    }

    /// Keeps the error of a field, whose text and code are put into the response at its end.
    pub(super) fn fail(&self, err: Error) -> FieldError {
        if err.kind == Kind::Internal {
            tracing::error!(error = %err, "a field of a GraphQL request failed");
        }
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.push(err);
        FieldError { message: mark(failures.len() - 1) }
    }

    /// Counts a field.
    ///
    /// # Errors
    /// There were too many.
    pub(super) fn step(&self) -> Result<(), Error> {
        if self.steps.fetch_add(1, Ordering::Relaxed) < MAX_STEPS {
            return Ok(());
        }
        Err(too_large(&format!("{MAX_STEPS} fields")))
    }

    /// Counts a value.
    ///
    /// # Errors
    /// The answer is too large.
    pub(super) fn add_value(&self, value: &Value) -> Result<(), Error> {
        let size = size(value);
        if self.bytes.fetch_add(size, Ordering::Relaxed) + size <= MAX_BYTES {
            return Ok(());
        }
        Err(too_large(&format!("{MAX_BYTES} bytes")))
    }

    /// Notes the organization that the request changes, for the audit log.
    pub(super) fn note_org(&self, slug: &str) {
        *self.about.lock().unwrap_or_else(PoisonError::into_inner) = Some(slug.to_owned());
    }

    /// The organization that the request has changed.
    pub(super) fn about(&self) -> Option<String> {
        self.about.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The errors of fields so far.
    pub(super) fn failures(&self) -> Vec<Error> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest machines of an organization's apps, which are listed once in a request.
    ///
    /// # Errors
    /// They could not be listed.
    pub(super) async fn newest(
        &self,
        org: &str,
        list: impl Future<Output = Result<HashMap<String, Machine>, Error>>,
    ) -> Result<Newest, Error> {
        let mut newest = self.newest.lock().await;
        if let Some(known) = newest.get(org) {
            return Ok(known.clone());
        }
        let listed = Arc::new(list.await?);
        newest.insert(org.to_owned(), listed.clone());
        Ok(listed)
    }
}

fn too_large(most: &str) -> Error {
    Error::invalid("query", format!("its answer has more than {most}"))
        .hint("ask for less of each entry, or in several requests")
}

/// About as many bytes as its JSON has.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(entries) => entries.iter().map(size).sum::<usize>() + 2,
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + 4 + size(value)).sum::<usize>() + 2
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_are_about_those_of_the_json() {
        for value in [json!(null), json!("abc"), json!({ "a": ["b", 1], "c": { "d": true } })] {
            let (is, about) = (value.to_string().len(), size(&value));
            assert!(about >= is && about <= is * 2, "{value}: {is} {about}");
        }
    }
}
