//! Views whose readers are served by the kernel itself, from the host's files (`--data passthrough`).
#![allow(clippy::unwrap_used)] // also in helpers

mod changes;
mod ends;
mod refused;
mod scene;
mod sharing;
mod writers;
