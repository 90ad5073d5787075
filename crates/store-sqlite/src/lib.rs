//! control::Store on SQLite.
