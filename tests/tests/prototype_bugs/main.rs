//! The known bugs of the prototype, as its users and its source show them: each one test here, against a
//! mounted branch, a real daemon and the program. None of them may ever come back.
#![allow(clippy::unwrap_used)] // also in helpers

mod attributes;
mod commit;
mod concurrency;
mod crash;
mod daemon;
mod losers;
mod names;
mod posix;
mod processes;
mod snapshot;

/// The errno of a failure.
fn errno<T>(outcome: std::io::Result<T>) -> i32 {
    outcome.map(drop).expect_err("it should have failed").raw_os_error().unwrap()
}

/// Names in a directory, sorted.
fn list(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
