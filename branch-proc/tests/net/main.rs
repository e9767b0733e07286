//! Network modes and the egress proxy, from inside a group and from outside.
#![allow(clippy::unwrap_used)] // also in helpers

mod attacks;
#[path = "../common/mod.rs"]
mod common;
mod inside;
mod modes;
mod outside;
mod programs;
mod transfers;
