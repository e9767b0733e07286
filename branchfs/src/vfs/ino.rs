//! Inode numbers: `(branch index + 1) << 32 | node id`.
//!
//! A file has a second number, with the highest bit set, for use while its first is retired: the kernel reads the bytes
//! that the file had before from the host by itself, and cannot be told to stop (`passing`). All else here is
//! blind to that bit, and programs are told the first number.
//!
//! The half above is never 0 for a branch, so the numbers below 2³² belong to the mount itself: 1 is its root
//! directory, `index + 2` the `@branch` link of a branch. Node id 0 names no object in any branch; with a
//! branch's half above it is that branch's control file. The low half of an object's number is its node id
//! in every branch: git, which compares only these 32 bits, keeps its index across a fork.

use branch_store::{BranchId, NodeId};

/// The root directory of the mount.
pub const MOUNT_ROOT: u64 = 1;
/// Highest branch index a mount can show.
pub(crate) const BRANCH_INDEX_MAX: u32 = (SECOND >> 32) as u32 - 2;

const _: () = assert!(branch_store::BRANCH_ID_MAX <= BRANCH_INDEX_MAX, "every branch can be shown");

const SECOND: u64 = 1 << 63;
const FIRST_LINK: u32 = 2;
const CONTROL_NODE: u32 = 0;

const _: () = assert!(half(BranchId(BRANCH_INDEX_MAX)) & SECOND == 0, "no number is somebody's second");
const _: () = assert!(BRANCH_INDEX_MAX <= u32::MAX - FIRST_LINK, "every branch has a link");
const _: () = assert!(MOUNT_ROOT < FIRST_LINK as u64, "the links lie above the mount root");
const _: () = assert!(NodeId::ROOT.0 != CONTROL_NODE, "a branch's root is not its control file");
const _: () = assert!(of_root(BranchId::MAIN) != MOUNT_ROOT, "main's root is not the mount root");

/// What an inode number names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ino {
    /// The root directory of the mount.
    MountRoot,
    /// `@branch`, a symbolic link in the mount root.
    Link(BranchId),
    /// The control file of a branch.
    Control(BranchId),
    /// An object of a branch.
    Node,
    /// Never given out.
    Unknown,
}

/// The number of an object.
pub const fn of_node(branch: BranchId, node: NodeId) -> u64 {
    half(branch) | node.0 as u64
}

/// The number of a branch's root directory.
pub const fn of_root(branch: BranchId) -> u64 {
    of_node(branch, NodeId::ROOT)
}

/// The number of a branch's control file.
pub const fn of_control(branch: BranchId) -> u64 {
    half(branch) | CONTROL_NODE as u64
}

/// The number of the `@branch` link.
pub(crate) const fn of_link(branch: BranchId) -> u64 {
    FIRST_LINK as u64 + branch.0 as u64
}

/// The number an object has as long as that is not retired, of either of its numbers.
pub(crate) const fn first(ino: u64) -> u64 {
    ino & !SECOND
}

/// The number of the object while its first is retired.
pub(crate) const fn second(ino: u64) -> u64 {
    ino | SECOND
}

/// Whether it is the number of some branch's control file.
pub(crate) fn is_control(ino: u64) -> bool {
    matches!(unpack(ino), Ino::Control(_))
}

/// The inverse of the functions above.
pub(crate) fn unpack(ino: u64) -> Ino {
    let (high, low) = ((first(ino) >> 32) as u32, ino as u32);
    match (high, low) {
        (0, _) if ino != first(ino) => Ino::Unknown,
        (0, 0) => Ino::Unknown,
        (0, 1) => Ino::MountRoot,
        (0, low) => Ino::Link(BranchId(low - FIRST_LINK)),
        (high, CONTROL_NODE) => Ino::Control(BranchId(high - 1)),
        (_, _) => Ino::Node,
    }
}

/// The number of another object of the branch `ino` belongs to.
pub(crate) const fn sibling(ino: u64, node: NodeId) -> u64 {
    first(ino) >> 32 << 32 | node.0 as u64
}

/// Whether the number belongs to the branch: an object or the control file.
pub(crate) fn is_of(ino: u64, branch: BranchId) -> bool {
    first(ino) >> 32 == half(branch) >> 32
}

const fn half(branch: BranchId) -> u64 {
    (branch.0 as u64 + 1) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_unpacks_to_what_it_was_packed_from() {
        for branch in [0, 1, 2, 7, 1 << 20, BRANCH_INDEX_MAX].map(BranchId) {
            for node in [1, 2, 0xC000_0000, u32::MAX].map(NodeId) {
                let ino = of_node(branch, node);
                assert_eq!(unpack(ino), Ino::Node);
                assert_eq!(ino as u32, node.0, "git sees the node id");
                assert!(is_of(ino, branch) && !is_of(ino, BranchId(branch.0.wrapping_add(1))));
                let other = second(ino);
                assert_ne!(other, ino, "two numbers");
                assert_eq!((first(ino), first(other), second(other)), (ino, ino, other));
                assert_eq!(
                    (unpack(other), other as u32),
                    (Ino::Node, node.0),
                    "git sees the node id there, too"
                );
                assert!(is_of(other, branch));
                assert_eq!(sibling(other, NodeId(5)), of_node(branch, NodeId(5)), "its directory's first");
            }
            assert_eq!(unpack(of_control(branch)), Ino::Control(branch));
            assert_eq!(unpack(of_link(branch)), Ino::Link(branch));
        }
        assert_eq!(unpack(MOUNT_ROOT), Ino::MountRoot);
        assert_eq!(unpack(0), Ino::Unknown);
        assert_eq!(unpack(second(MOUNT_ROOT)), Ino::Unknown);
    }

    #[test]
    fn no_two_things_share_a_number() {
        let mut seen = std::collections::HashSet::new();
        assert!(seen.insert(MOUNT_ROOT));
        for branch in (0..50).map(BranchId) {
            assert!(seen.insert(of_control(branch)));
            assert!(seen.insert(of_link(branch)));
            assert!((1..50).all(|node| seen.insert(of_node(branch, NodeId(node)))));
        }
    }
}
