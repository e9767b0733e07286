//! A real store behind a real mount: what only the kernel can tell. Skipped, saying so, without /dev/fuse.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

mod branches;
mod control;
mod files;
mod fixture;
mod mounts;
mod names;
