//! Carries a request out.
//!
//! The library's futures stay on one thread, so each request has a thread for its time, of which
//! there are a few. Requests wait for one for a while.

use super::answer::Object;
use super::errors::{Answer, library_text};
use super::fields::{Mutations, Queries};
use super::limits;
use super::request::GraphqlRequest;
use super::session::Session;
use crate::tokens::Found;
use crate::{Error, Kind, Platform};
use apollo_compiler::collections::HashMap;
use apollo_compiler::executable::Operation;
use apollo_compiler::introspection::check_max_depth;
use apollo_compiler::request::{RequestError, coerce_variable_values};
use apollo_compiler::resolvers::Execution;
use apollo_compiler::response::{ExecutionResponse, JsonMap, JsonValue};
use apollo_compiler::schema::Implementers;
use apollo_compiler::validation::{DiagnosticList, Valid};
use apollo_compiler::{ExecutableDocument, Name, Node, Schema};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const SDL: &str = include_str!("schema.graphql");
/// Requests that are carried out at the same time.
const MOST_AT_ONCE: usize = 64;
/// Time that a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// Complaints about a document that are shown.
const MAX_COMPLAINTS: usize = 3;

/// The schema, and the turns of requests.
pub(crate) struct Front {
    schema: Valid<Schema>,
    implementers: HashMap<Name, Implementers>,
    turns: Arc<Semaphore>,
    /// Time of a request that only reads. Mutations end when their operations do.
    read_within: Duration,
}

/// A request that is valid and within the bounds.
pub(crate) struct Prepared {
    document: Valid<ExecutableDocument>,
    operation: Node<Operation>,
    variables: Valid<JsonMap>,
}

impl Prepared {
    /// Whether it is to change something.
    pub(crate) fn changes(&self) -> bool {
        self.operation.is_mutation()
    }

    /// Its fields at the top, such as `createApp`.
    pub(crate) fn fields(&self) -> String {
        let fields = self.operation.root_fields(&self.document);
        fields.map(|field| field.name.as_str()).collect::<Vec<_>>().join(",")
    }
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Done {
    /// The answer.
    pub(crate) answer: Answer,
    /// The organization that it has changed.
    pub(crate) org: Option<String>,
}

impl Front {
    /// The front with the schema of `schema.graphql`, for which a request that only reads has this
    /// time.
    pub(crate) fn new(read_within: Duration) -> Self {
        let schema = Schema::parse_and_validate(SDL, "schema.graphql");
        // Part of the program; tests read it.
        let schema = schema.unwrap_or_else(|err| panic!("schema.graphql is not valid: {err}"));
        let implementers = schema.implementers_map();
        let turns = Arc::new(Semaphore::new(MOST_AT_ONCE));
        Self { schema, implementers, turns, read_within }
    }

    /// Reads the document and the variables of a request.
    ///
    /// # Errors
    /// They are not valid, or beyond the bounds.
    pub(crate) fn prepare(&self, request: &GraphqlRequest) -> Result<Prepared, Error> {
        let document = limits::parser().parse_executable(&self.schema, &request.query, "query");
        let document = document.map_err(|err| invalid(&err.errors))?;
        let document = document.validate(&self.schema).map_err(|err| invalid(&err.errors))?;
        let operation =
            document.operations.get(request.operation()).map_err(|err| refused(&err))?;
        let operation = operation.clone();
        limits::check(&document, &operation)?;
        check_max_depth(&document, &operation).map_err(|err| refused(&err))?;
        let given = JsonValue::from(serde_json::Value::Object(
            request.variables.clone().unwrap_or_default(),
        ));
        let none = JsonMap::new();
        let given = given.as_object().unwrap_or(&none);
        let variables = coerce_variable_values(&self.schema, &operation, given);
        let variables = variables.map_err(|err| {
            let refused = refused(&err);
            Error { field: Some("variables".into()), ..refused }
        })?;
        Ok(Prepared { document, operation, variables })
    }

    /// Carries a request out on behalf of the caller of `platform`, who has these tokens. One that
    /// only reads ends when this future is dropped.
    pub(crate) async fn run(
        self: &Arc<Self>,
        prepared: Prepared,
        platform: Platform,
        tokens: Arc<[Found]>,
    ) -> Done {
        let turn = timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            let why = format!("{MOST_AT_ONCE} GraphQL requests are being carried out");
            return Done::refused(&Error::new(Kind::Busy, why));
        };
        let (front, runtime) = (self.clone(), Handle::current());
        let stop = CancellationToken::new();
        let _stopped_with_this = stop.clone().drop_guard();
        let session = Arc::new(Session::new(platform, tokens));
        let work = move || {
            let _turn = turn;
            runtime.block_on(async {
                tokio::select! {
                    done = front.carry_out(&prepared, &session) => done,
                    // Its client has left.
                    () = stop.cancelled(), if !prepared.changes() => {
                        Done::refused(&Error::new(Kind::Timeout, "the client has left"))
                    }
                }
            })
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|err| {
            Done::refused(&Error::internal(format!("carry out a GraphQL request: {err}")))
        })
    }

    async fn carry_out(&self, prepared: &Prepared, session: &Arc<Session>) -> Done {
        let execute = self.execute(prepared, session);
        let response = match prepared.changes() {
            true => execute.await,
            false => match timeout(self.read_within, execute).await {
                Ok(response) => response,
                Err(_) => {
                    let why = format!("the request took longer than {:?}", self.read_within);
                    return Done::refused(&Error::new(Kind::Timeout, why));
                }
            },
        };
        match response {
            Ok(response) => {
                let answer = Answer::of(response, &session.failures());
                Done { answer, org: session.about() }
            }
            Err(err) => Done::refused(&refused(&err)),
        }
    }

    async fn execute(
        &self,
        prepared: &Prepared,
        session: &Arc<Session>,
    ) -> Result<ExecutionResponse, RequestError> {
        let root = match prepared.changes() {
            true => Object::root(session.clone(), Mutations),
            false => Object::root(session.clone(), Queries),
        };
        Execution::new(&self.schema, &prepared.document)
            .operation(&prepared.operation)
            .implementers_map(&self.implementers)
            .coerced_variable_values(&prepared.variables)
            // No request without a valid token comes here.
            .enable_schema_introspection(true)
            .execute_async(&root)
            .await
    }
}

impl Done {
    fn refused(err: &Error) -> Self {
        Self { answer: Answer::refused(err), org: None }
    }
}

/// Complaints about a document, the first of them.
fn invalid(complaints: &DiagnosticList) -> Error {
    let texts = complaints.iter().map(|complaint| {
        let place = complaint.line_column_range().map(|range| range.start);
        let place = place.map(|place| format!(" (line {}, column {})", place.line, place.column));
        format!("{}{}", library_text(&complaint.error.to_string()), place.unwrap_or_default())
    });
    let shown: Vec<String> = texts.take(MAX_COMPLAINTS).collect();
    let more = complaints.len().saturating_sub(shown.len());
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Error::invalid("query", format!("{}{more}", shown.join("; ")))
}

fn refused(err: &RequestError) -> Error {
    Error::invalid("query", library_text(&err.message().to_string()))
}
