//! The public API, intent and reconcilers.
