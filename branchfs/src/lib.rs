//! placeholder
pub mod daemon;
pub mod fuse;
pub mod vfs;
