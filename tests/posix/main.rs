//! Suites nobody here wrote, each run on the plain filesystem and in branches at depth 1 and 10: what a suite or
//! a program finds in a branch must be what it finds beside it. `docs/testing.md` says how to run them longer.
#![allow(clippy::unwrap_used)] // also in helpers

mod archives;
mod bound;
mod cargo;
mod fio;
mod fsx;
mod git;
mod ground;
mod hostile;
mod pjdfstest;
mod rsync;
mod sqlite;
mod stress;
mod tools;
