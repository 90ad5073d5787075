//! Typed calls to the APIs in wire; the only place that knows URLs.
