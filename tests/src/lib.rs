//! What the tests that cross a crate wall share: a workspace with a real daemon behind it, the program, and
//! the comparison of directory trees. The tests themselves live in `tests/`.

#![forbid(unsafe_code)]

mod binary;
mod can_mount;
mod disk;
mod model;
mod ordinary;
mod process;
mod seed;
mod site;
mod tree;
mod workspace;

pub use binary::binary;
pub use can_mount::{can_mount, cannot, skip};
pub use disk::{Disk, Filesystem, Frozen};
pub use model::{Model, Op, Thing};
pub use ordinary::{NOBODY, Ordinary};
pub use process::{Stopped, is_dead, pidfd, state_of, wait_dead, wait_until_readable};
pub use seed::{Rng, long, rounds, seed};
pub use site::Site;
pub use tree::{Times, Tree, tree, tree_hash, tree_without};
pub use workspace::{Workspace, clean_environment, is_mounted, run_ok};
