//! What is no longer true of what the kernel was told.

use std::collections::BTreeSet;

use branch_store::NodeId;

/// One batch of news, in terms of what the kernel knows. Each thing once, however often it changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// Names: the directory's inode number, the name.
    pub names: BTreeSet<(u64, Vec<u8>)>,
    /// Objects whose attributes and bytes are to be asked for again: the id of the directory they were told of in,
    /// their inode number.
    pub objects: BTreeSet<(NodeId, u64)>,
    /// The same for objects of which only the attributes are.
    pub moved: BTreeSet<(NodeId, u64)>,
    /// Directories whose attributes are to be asked for again.
    pub directories: BTreeSet<u64>,
    /// Names in base directories under which somebody may have put an object that has others, too.
    pub appeared: BTreeSet<(NodeId, Vec<u8>)>,
    /// Nobody knows what else.
    pub lost: bool,
}

impl Stale {
    /// Nothing of interest happened.
    pub fn is_empty(&self) -> bool {
        *self == Stale::default()
    }
}
