//! `docs/compatibility.md` is made of the facts in `docs/compatibility.toml`; every route and
//! every field of a machine's config has a fact, and the tests that the facts name exist.
//!
//! `UPDATE_DOCS=1` writes the page.

use crate::world::world;
use control::http_api::HttpApi;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Facts {
    pub(crate) call: Vec<Fact>,
    pub(crate) field: Vec<Fact>,
    state: Vec<Fact>,
    guest: Vec<Fact>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fact {
    pub(crate) name: String,
    #[serde(default)]
    docs: String,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) note: String,
    #[serde(default)]
    pub(crate) test: String,
}

const STATES: [&str; 5] = ["same", "better", "differs", "not yet", "addition"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn facts() -> Facts {
    let text = std::fs::read_to_string(root().join("docs/compatibility.toml")).unwrap();
    toml::from_str(&text).unwrap()
}

impl Facts {
    fn all(&self) -> impl Iterator<Item = &Fact> {
        [&self.call, &self.field, &self.state, &self.guest].into_iter().flatten()
    }
}

fn missing<'a>(of: impl Iterator<Item = &'a String>, facts: &[Fact]) -> Vec<&'a String> {
    of.filter(|name| !facts.iter().any(|fact| fact.name == **name)).collect()
}

#[test]
fn every_route_has_a_fact() {
    let routes = HttpApi::routes().into_iter();
    let routes: BTreeSet<String> =
        routes.filter_map(|route| Some(format!("{} {}", route.method?, route.path))).collect();
    assert_eq!(missing(routes.iter(), &facts().call), Vec::<&String>::new());
}

#[tokio::test]
async fn every_field_of_a_config_has_a_fact() {
    let w = world().await;
    let url = format!("http://{}/openapi.json", w.addr);
    let document: Value = w.client.get(url).send().await.unwrap().json().await.unwrap();
    let mut fields = BTreeSet::new();
    let config = &document["components"]["schemas"]["MachineConfig"];
    collect(&document, config, "", &mut fields);
    assert!(fields.len() > 100, "{fields:?}");
    assert_eq!(missing(fields.iter(), &facts().field), Vec::<&String>::new());
}

/// The paths of all fields below a schema: `services[].ports[].port`, `checks.*.type`.
fn collect(document: &Value, schema: &Value, path: &str, fields: &mut BTreeSet<String>) {
    if let Some(to) = schema["$ref"].as_str() {
        let target = document.pointer(to.trim_start_matches('#')).unwrap();
        // A duration is one value, however it is written.
        if !["Span", "Autostop", "Secret", "Bytes"].iter().any(|end| to.ends_with(end)) {
            collect(document, target, path, fields);
        }
        return;
    }
    for any in ["anyOf", "oneOf"] {
        for of in schema[any].as_array().into_iter().flatten() {
            collect(document, of, path, fields);
        }
    }
    for (name, of) in schema["properties"].as_object().into_iter().flatten() {
        let field = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        fields.insert(field.clone());
        collect(document, of, &field, fields);
    }
    if schema["items"].is_object() {
        collect(document, &schema["items"], &format!("{path}[]"), fields);
    }
    if schema["additionalProperties"].is_object() {
        collect(document, &schema["additionalProperties"], &format!("{path}.*"), fields);
    }
}

#[test]
fn facts_are_whole_and_name_tests_that_exist() {
    let (facts, mut sources) = (facts(), String::new());
    read_sources(&root().join("crates"), &mut sources);
    let mut names = BTreeSet::new();
    for fact in facts.all() {
        let name = &fact.name;
        assert!(STATES.contains(&fact.state.as_str()), "{name}: state {:?}", fact.state);
        assert!(fact.docs.is_empty() || fact.docs.starts_with("https://"), "{name}: {}", fact.docs);
        let explained = matches!(fact.state.as_str(), "same" | "addition") || !fact.note.is_empty();
        assert!(explained, "{name}: a note has to show how or why");
        for test in fact.test.split(", ").filter(|test| !test.is_empty()) {
            let function = test.rsplit(' ').next().unwrap();
            let forms =
                [format!("fn {function}("), format!("fn {function}<"), format!("\"{function}\"")];
            assert!(forms.iter().any(|form| sources.contains(form)), "{name}: no test {test}");
        }
    }
    for list in [&facts.call, &facts.field, &facts.state, &facts.guest] {
        for fact in list {
            assert!(names.insert((list.as_ptr(), &fact.name)), "{} is there twice", fact.name);
        }
    }
}

fn read_sources(dir: &Path, into: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn the_page_is_that_of_the_facts() {
    let (page, path) = (page(&facts()), root().join("docs/compatibility.md"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/compatibility.md is not that of the facts: UPDATE_DOCS=1 writes it"
    );
}

fn page(facts: &Facts) -> String {
    let mut page = String::from(
        "# Compatibility with Fly's Machines API\n\n\
         Made from [compatibility.toml](compatibility.toml); do not edit it by hand.\n\n\
         | word | meaning |\n|---|---|\n\
         | same | as Fly's page describes it |\n\
         | better | so, and more than that |\n\
         | differs | something else happens, and why |\n\
         | not yet | refused by name, or kept with a warning |\n\
         | addition | Fly has no such thing |\n\n",
    );
    page.push_str(
        "|  | same | better | differs | not yet | addition |\n|---|---|---|---|---|---|\n",
    );
    let lists = [
        ("Calls", &facts.call),
        ("Fields of a machine's config", &facts.field),
        ("States", &facts.state),
        ("In the guest", &facts.guest),
    ];
    for (title, list) in lists {
        let count = |state: &str| list.iter().filter(|fact| fact.state == state).count();
        let counts = STATES.map(|state| count(state).to_string()).join(" | ");
        let _ = writeln!(page, "| {title} | {counts} |");
    }
    for (title, list) in lists {
        let _ =
            write!(page, "\n## {title}\n\n| | state | how and why | test |\n|---|---|---|---|\n");
        for Fact { name, docs, state, note, test } in list {
            let name = match docs.is_empty() {
                true => format!("`{name}`"),
                false => format!("[`{name}`]({docs})"),
            };
            let test = if test.is_empty() { String::new() } else { format!("`{test}`") };
            let _ = writeln!(page, "| {name} | {state} | {} | {test} |", note.replace('|', "\\|"));
        }
    }
    page
}
