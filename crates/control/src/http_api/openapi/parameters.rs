//! The parameters that the query string of a call may have.

use super::operation::Kind;
use super::operations;
use axum::http::Method;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Names of the parameters of one call.
#[derive(Debug, Default)]
pub(in crate::http_api) struct Parameters {
    names: Vec<&'static str>,
    /// Beginnings of names.
    prefixes: Vec<String>,
}

impl Parameters {
    /// Whether the call has such a parameter.
    pub(in crate::http_api) fn has(&self, name: &str) -> bool {
        let begins = |prefix: &String| name.starts_with(prefix.as_str());
        self.names.contains(&name) || self.prefixes.iter().any(begins)
    }
}

/// The parameters of the call with this method and path, as the table of routes has it. `None`
/// if it is not described.
pub(in crate::http_api) fn parameters(method: &Method, path: &str) -> Option<&'static Parameters> {
    static ALL: LazyLock<ByPath> = LazyLock::new(by_path);
    // A HEAD is answered by the endpoint of GET.
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let of_path = ALL.get(path)?;
    of_path.iter().find(|(own, _)| own == method).map(|(_, parameters)| parameters)
}

type ByPath = HashMap<&'static str, Vec<(Method, Parameters)>>;

fn by_path() -> ByPath {
    let mut all = ByPath::new();
    for operation in operations::all().into_iter().flat_map(|(_, _, operations)| operations) {
        let mut parameters = Parameters::default();
        for parameter in operation.query {
            match parameter.kind {
                Kind::Prefix => parameters.prefixes.push(format!("{}.", parameter.name)),
                _ => parameters.names.push(parameter.name),
            }
        }
        all.entry(operation.path).or_default().push((operation.method, parameters));
    }
    all
}
