//! Edits of the base behind our back, seen through views whose kernel believes what it was told (S15).
#![allow(clippy::unwrap_used)] // also in helpers

mod cached;
mod edits;
mod lost;
mod race;
mod views;
