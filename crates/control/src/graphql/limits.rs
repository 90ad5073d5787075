//! Bounds of a document, so that a small one cannot cause a large amount of work: of its tokens
//! and their nesting while it is read, and of its fields, with fragments spread, before it is
//! carried out.

use crate::Error;
use apollo_compiler::executable::{ExecutableDocument, Operation, Selection, SelectionSet};
use apollo_compiler::parser::Parser;
use std::collections::HashMap;

/// Tokens of a document. The longest of Fly's client has some 400.
const TOKENS: usize = 4_000;
/// Nesting of a document's text.
const NESTING: usize = 50;
/// Fields with fragments spread, and those at the top. Each alias is a field of its own.
const FIELDS: usize = 600;
const ROOT_FIELDS: usize = 20;
/// Levels of fields with fragments spread; the usual query for introspection has 13.
const DEPTH: usize = 20;

/// A parser that gives up at the bounds.
pub(super) fn parser() -> Parser {
    Parser::new().token_limit(TOKENS).recursion_limit(NESTING)
}

/// What a selection amounts to with its fragments spread.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    fields: usize,
    depth: usize,
}

/// Whether a valid operation is within the bounds.
///
/// # Errors
/// It is not, and which bound.
pub(super) fn check(document: &ExecutableDocument, operation: &Operation) -> Result<(), Error> {
    let roots = operation.root_fields(document).take(ROOT_FIELDS + 1).count();
    let mut known = HashMap::new();
    let extent = extent(document, &operation.selection_set, &mut known);
    for (is, most, what) in [
        (roots, ROOT_FIELDS, "fields at the top"),
        (extent.fields, FIELDS, "fields"),
        (extent.depth, DEPTH, "levels of fields"),
    ] {
        if is > most {
            let why = format!("has more than {most} {what}");
            return Err(Error::invalid("query", why).hint("ask in several requests"));
        }
    }
    Ok(())
}

/// A valid document has no circle of fragments, so that this ends; each is looked at once.
fn extent<'a>(
    document: &'a ExecutableDocument,
    set: &'a SelectionSet,
    known: &mut HashMap<&'a str, Extent>,
) -> Extent {
    let mut all = Extent::default();
    for selection in &set.selections {
        let own = match selection {
            Selection::Field(field) => {
                let below = extent(document, &field.selection_set, known);
                Extent { fields: below.fields.saturating_add(1), depth: below.depth + 1 }
            }
            Selection::InlineFragment(inline) => extent(document, &inline.selection_set, known),
            Selection::FragmentSpread(spread) => {
                let name = spread.fragment_name.as_str();
                match (known.get(name), document.fragments.get(&spread.fragment_name)) {
                    (Some(extent), _) => *extent,
                    (None, Some(fragment)) => {
                        let found = extent(document, &fragment.selection_set, known);
                        known.insert(name, found);
                        found
                    }
                    (None, None) => Extent::default(),
                }
            }
        };
        all.fields = all.fields.saturating_add(own.fields);
        all.depth = all.depth.max(own.depth);
    }
    all
}
