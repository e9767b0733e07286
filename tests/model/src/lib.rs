//! # branchfs-model: what a branching filesystem must do, in plain maps
//!
//! [`Model`] holds every branch as a whole copy and predicts the answer to every [`Call`], errno included. A
//! [`Driver`] carries the same calls out on the product: through the store's API, through the vfs, or by
//! system calls on a mount. [`World`] does both and compares everything visible after each step. [`generate`]
//! makes calls from any [`Source`] of numbers, random or a fuzzer's bytes; a failing sequence is cut down by
//! [`shrink`] and printed as a literal that a test can replay with [`replay`].

#![forbid(unsafe_code)]

mod answer;
mod call;
mod compare;
mod driver;
mod generate;
mod host;
mod model;
mod mount_driver;
mod picture;
mod run;
mod shrink;
mod source;
mod store_driver;
mod vfs_driver;
mod when;
mod world;

pub use answer::{Answer, Failure};
pub use call::{Call, Expect, Group, Kind, Mode, Path, Place, Space, Stamp, Whence};
pub use driver::{Driver, Level};
pub use generate::generate;
pub use model::{MAIN, Model, SLOTS};
pub use mount_driver::MountDriver;
pub use picture::{Picture, Seen, Thing};
pub use run::{Plan, Totals, operations, replay, run, seed};
pub use shrink::shrink;
pub use source::{Bytes, Seeded, Source};
pub use store_driver::StoreDriver;
pub use vfs_driver::VfsDriver;
pub use when::{Time, When};
pub use world::{Difference, MakeDriver, Thoroughness, World};
