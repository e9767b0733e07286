//! The daemon as a process: what clients, signals and its own death do to it.

mod endings;
mod harness;
mod life;
mod socket;
