//! The daemon as a process: what clients, signals and its own death do to it.

// One answer, and one way of skipping, for all tests that mount.
#[path = "../../../tests/src/can_mount.rs"]
#[allow(dead_code, unreachable_pub)]
mod can_mount;
mod endings;
mod harness;
mod life;
mod progress;
mod socket;
