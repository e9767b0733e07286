//! A branch against ext4: the same calls run in a plain ext4 directory and in branches whose content came to be in
//! different ways, and everything each call answers must be the same. What may differ stands in `docs/semantics.md`.
#![allow(clippy::unwrap_used)] // also in helpers

mod both;
mod caches;
mod copying;
mod identity;
mod limits;
mod links;
mod listing;
mod locks;
mod maps;
mod modes;
mod names;
mod opening;
mod play;
mod renames;
mod sparse;
mod special;
mod sys;
mod times;
mod unlinked;
mod writing;
