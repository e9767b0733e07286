//! What the fuzz targets share: store files taken apart and put together again, workspaces made of bytes,
//! and what must hold of a store that opened.

pub mod archive;
pub mod exercise;
pub mod frames;
pub mod mutate;
pub mod tokens;
pub mod view;
pub mod workspace;
