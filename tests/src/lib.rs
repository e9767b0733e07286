//! Tests that cross a crate wall live in `tests/`.
