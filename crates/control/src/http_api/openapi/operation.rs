//! The description of one operation.

use axum::http::{Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// Makes the schema of a type, or a reference to it.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// A route as its clients see it.
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// Name of the function in generated clients.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) query: Vec<Parameter>,
    pub(super) body: Option<Content>,
    pub(super) answer: (StatusCode, Content),
    /// Another success, with the same body.
    pub(super) or: Option<StatusCode>,
    /// Some of its parameters may have values that are not supported.
    pub(super) unsupported: bool,
    /// Fly's Machines API has no such call.
    pub(super) addition: bool,
}

/// A parameter of the query string.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) description: &'static str,
}

/// What a parameter is written as.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// Texts separated by commas, or the parameter repeated.
    List,
    Flag,
    Number,
    /// Seconds, or a duration such as `10s`.
    Duration,
    /// Any number of parameters that begin with the name and a dot.
    Prefix,
}

/// A body.
#[derive(Clone, Copy)]
pub(super) enum Content {
    Empty,
    Json(SchemaOf),
    /// One value per line.
    Lines(SchemaOf),
    /// Server-sent events, each with such a value.
    Events(SchemaOf),
    /// One value per line, or server-sent events if the client accepts those.
    LinesOrEvents(SchemaOf),
    /// A text of this type.
    Text(&'static str),
    /// A tar.
    Tar,
    /// Messages over a WebSocket.
    WebSocket,
}

impl Operation {
    fn new(method: Method, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        let (query, answer) = (Vec::new(), (StatusCode::OK, Content::Empty));
        Self {
            method,
            path,
            id,
            summary,
            query,
            body: None,
            answer,
            or: None,
            unsupported: false,
            addition: false,
        }
    }

    fn parameter(mut self, name: &'static str, kind: Kind, description: &'static str) -> Self {
        self.query.push(Parameter { name, kind, description });
        self
    }

    pub(super) fn text(self, name: &'static str, description: &'static str) -> Self {
        self.parameter(name, Kind::Text, description)
    }

    pub(super) fn list(self, name: &'static str, description: &'static str) -> Self {
        self.parameter(name, Kind::List, description)
    }

    pub(super) fn flag(self, name: &'static str, description: &'static str) -> Self {
        self.parameter(name, Kind::Flag, description)
    }

    pub(super) fn number(self, name: &'static str, description: &'static str) -> Self {
        self.parameter(name, Kind::Number, description)
    }

    pub(super) fn duration(self, name: &'static str, description: &'static str) -> Self {
        self.parameter(name, Kind::Duration, description)
    }

    pub(super) fn prefix(self, name: &'static str, description: &'static str) -> Self {
        self.parameter(name, Kind::Prefix, description)
    }

    /// A JSON body; one that is absent is an empty object.
    pub(super) fn takes<T: JsonSchema>(self) -> Self {
        Self { body: Some(Content::Json(schema_of::<T>)), ..self }
    }

    pub(super) fn takes_tar(self) -> Self {
        Self { body: Some(Content::Tar), ..self }
    }

    pub(super) fn answers<T: JsonSchema>(self) -> Self {
        self.answers_with(StatusCode::OK, Content::Json(schema_of::<T>))
    }

    pub(super) fn answers_lines<T: JsonSchema>(self) -> Self {
        self.answers_with(StatusCode::OK, Content::Lines(schema_of::<T>))
    }

    pub(super) fn answers_lines_or_events<T: JsonSchema>(self) -> Self {
        self.answers_with(StatusCode::OK, Content::LinesOrEvents(schema_of::<T>))
    }

    pub(super) fn answers_events<T: JsonSchema>(self) -> Self {
        self.answers_with(StatusCode::OK, Content::Events(schema_of::<T>))
    }

    pub(super) fn answers_with(self, code: StatusCode, content: Content) -> Self {
        Self { answer: (code, content), ..self }
    }

    /// The same body with another code.
    pub(super) fn or(self, code: StatusCode) -> Self {
        Self { or: Some(code), ..self }
    }

    /// It has parameters with values that are not supported (422).
    pub(super) fn unsupported(self) -> Self {
        Self { unsupported: true, ..self }
    }

    pub(super) fn addition(self) -> Self {
        Self { addition: true, ..self }
    }
}

/// The schema of `T`, or a reference to it.
pub(super) fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

macro_rules! methods {
    ($($name:ident: $method:ident;)*) => {
        $(pub(super) fn $name(
            path: &'static str,
            id: &'static str,
            summary: &'static str,
        ) -> Operation {
            Operation::new(Method::$method, path, id, summary)
        })*
    };
}

methods! {
    get: GET;
    post: POST;
    put: PUT;
    patch: PATCH;
    delete: DELETE;
}
