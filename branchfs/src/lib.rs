//! placeholder
pub mod cli;
pub mod daemon;
pub mod fuse;
pub mod vfs;
