//! placeholder
pub mod fuse;
pub mod vfs;
