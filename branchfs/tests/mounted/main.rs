//! A real store behind a real mount: what only the kernel can tell. Skipped, saying so, without /dev/fuse.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

mod ahead;
mod branches;
// One answer, and one way of skipping, for all tests that mount.
#[path = "../../../tests/src/can_mount.rs"]
#[allow(dead_code, unreachable_pub)]
mod can_mount;
mod control;
mod extremes;
mod files;
mod fixture;
mod forgetting;
mod mounts;
mod names;
mod own_commits;
mod unheld;
