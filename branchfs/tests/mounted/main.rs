//! A real store behind a real mount: what only the kernel can tell. Skipped, saying so, without /dev/fuse.

mod branches;
mod control;
mod files;
mod fixture;
mod mounts;
mod names;
