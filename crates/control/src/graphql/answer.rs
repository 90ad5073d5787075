//! What fields answer, and how the library asks for it. JSON is read by the schema: where a
//! field's type is an object, the fields of the JSON are those of the object.

use super::session::Session;
use crate::Error;
use apollo_compiler::resolvers::{AsyncObjectValue, AsyncResolvedValue, FieldError, ResolveInfo};
use apollo_compiler::response::JsonValue;
use apollo_compiler::schema::ExtendedType;
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a field answers.
#[derive(Clone)]
pub(super) enum Answer {
    /// JSON. A field that an object in it does not have is null.
    Json(Value),
    /// An object that finds out its fields when they are asked for.
    Node(Arc<dyn Fields>),
    /// A list.
    List(Vec<Answer>),
    /// An object of which some fields are no JSON.
    Object(Arc<BTreeMap<&'static str, Answer>>),
}

/// An object that finds out its fields when they are asked for.
#[async_trait]
pub(super) trait Fields: Send + Sync {
    /// Name of its type.
    fn type_name(&self) -> &'static str;

    /// One field.
    async fn field(&self, session: &Session, name: &str, args: &Args) -> Result<Answer, Error>;
}

impl Answer {
    pub(super) fn null() -> Self {
        Self::Json(Value::Null)
    }

    pub(super) fn node(fields: impl Fields + 'static) -> Self {
        Self::Node(Arc::new(fields))
    }

    pub(super) fn object<const N: usize>(fields: [(&'static str, Self); N]) -> Self {
        Self::Object(Arc::new(BTreeMap::from(fields)))
    }

    /// A connection: `{ nodes }`.
    pub(super) fn nodes(nodes: impl IntoIterator<Item = Self>) -> Self {
        Self::object([("nodes", Self::List(nodes.into_iter().collect()))])
    }
}

impl From<Value> for Answer {
    fn from(json: Value) -> Self {
        Self::Json(json)
    }
}

/// The arguments of a field, as the schema has them.
#[derive(Debug)]
pub(super) struct Args(Map<String, Value>);

impl Args {
    /// A text or an id; an empty one is absent.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// One that must not be empty.
    ///
    /// # Errors
    /// It is.
    pub(super) fn required(&self, name: &str) -> Result<String, Error> {
        self.text(name).ok_or_else(|| Error::invalid(name, "is required"))
    }

    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.0.get(name)?.as_i64()
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The argument `input`, as what it is to be.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn input<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let input = self.0.get("input").cloned().unwrap_or_default();
        serde_json::from_value(input).map_err(|err| Error::invalid("input", err.to_string()))
    }
}

/// An object of the response.
pub(super) struct Object {
    session: Arc<Session>,
    type_name: String,
    of: Answer,
}

impl Object {
    /// The root of an operation.
    pub(super) fn root(session: Arc<Session>, fields: impl Fields + 'static) -> Self {
        let type_name = fields.type_name().to_owned();
        Self { session, type_name, of: Answer::node(fields) }
    }

    async fn resolve<'r>(&self, info: &ResolveInfo<'_>) -> Result<AsyncResolvedValue<'r>, Error> {
        self.session.step()?;
        let name = info.field_name();
        let answer = match &self.of {
            Answer::Json(json) => Answer::Json(json.get(name).cloned().unwrap_or_default()),
            Answer::Object(fields) => fields.get(name).cloned().unwrap_or_else(Answer::null),
            Answer::Node(fields) => {
                let args = serde_json::to_value(info.arguments()).unwrap_or_default();
                let args = Args(args.as_object().cloned().unwrap_or_default());
                fields.field(&self.session, name, &args).await?
            }
            Answer::List(_) => Answer::null(),
        };
        let type_name = info.field_definition().ty.inner_named_type();
        let is_leaf = match info.schema().types.get(type_name) {
            Some(ExtendedType::Scalar(_) | ExtendedType::Enum(_)) | None => true,
            Some(_) => false,
        };
        if let (true, Answer::Json(value)) = (is_leaf, &answer) {
            self.session.add_value(value)?;
        }
        Ok(self.resolved(answer, is_leaf, type_name))
    }

    fn resolved<'r>(
        &self,
        answer: Answer,
        is_leaf: bool,
        type_name: &str,
    ) -> AsyncResolvedValue<'r> {
        let object = |type_name: &str, of| {
            let (session, type_name) = (self.session.clone(), type_name.to_owned());
            AsyncResolvedValue::object(Self { session, type_name, of })
        };
        match answer {
            Answer::Json(Value::Array(entries)) if !is_leaf => {
                let entries = entries.into_iter().map(Answer::Json);
                let entries: Vec<_> =
                    entries.map(|entry| self.resolved(entry, is_leaf, type_name)).collect();
                AsyncResolvedValue::list(entries)
            }
            Answer::Json(json @ Value::Object(_)) if !is_leaf => {
                // Of an interface the JSON names the type.
                let own = json.get("__typename").and_then(Value::as_str).unwrap_or(type_name);
                let own = own.to_owned();
                object(&own, Answer::Json(json))
            }
            Answer::Json(Value::Array(entries)) if type_name != "JSON" => {
                let entries = entries.into_iter().map(JsonValue::from);
                AsyncResolvedValue::list(entries.map(AsyncResolvedValue::leaf).collect::<Vec<_>>())
            }
            Answer::Json(json) => AsyncResolvedValue::leaf(JsonValue::from(json)),
            Answer::Node(fields) => object(fields.type_name(), Answer::Node(fields.clone())),
            Answer::Object(fields) => object(type_name, Answer::Object(fields)),
            Answer::List(entries) => {
                let entries = entries.into_iter();
                let entries: Vec<_> =
                    entries.map(|entry| self.resolved(entry, is_leaf, type_name)).collect();
                AsyncResolvedValue::list(entries)
            }
        }
    }
}

impl AsyncObjectValue for Object {
    fn type_name(&self) -> &str {
        &self.type_name
    }

    fn resolve_field<'a>(
        &'a self,
        info: &'a ResolveInfo<'a>,
    ) -> BoxFuture<'a, Result<AsyncResolvedValue<'a>, FieldError>> {
        Box::pin(async move { self.resolve(info).await.map_err(|err| self.session.fail(err)) })
    }
}
