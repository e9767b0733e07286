//! Identifiers, names and limits. Rank one: everything may import this, it imports nothing of the crate.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Most branches one fork may make (the paper's `branch()` has the same bound).
pub const FORK_MAX: usize = 64;
/// Deepest nesting of branches below `main`.
pub const DEPTH_MAX: u32 = 4096;
/// Most marks of one branch.
pub const MARKS_MAX: usize = 4096;
/// Most live branches in one store.
pub const BRANCHES_MAX: usize = 1 << 20;
/// Greatest index of a branch. Indices are never used again, so this bounds the forks of a store's life.
pub const BRANCH_ID_MAX: u32 = (1 << 31) - 2;
/// Longest file name in bytes, as on every Linux filesystem.
pub const NAME_MAX: usize = 255;
/// Longest symbolic link target in bytes.
pub const SYMLINK_MAX: usize = 4095;
/// Most links to one file, as on ext4.
pub(crate) const LINK_MAX: u32 = 65_000;
/// Longest extended attribute value in bytes.
pub const XATTR_SIZE_MAX: usize = 65536;
/// Most bytes an object's extended attributes have together, names and values: they are in each record of it.
pub const XATTRS_SIZE_MAX: usize = 256 * 1024;
/// The extended attribute that says the permission bits a second time, in more detail (acl(5)). Whoever
/// changes one of the two has to change the other in the same step.
pub const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// Longest branch name in bytes.
pub const BRANCH_NAME_MAX: usize = 255;
/// Name of the root branch: the base itself.
pub const MAIN: &str = "main";
/// The store's own directory in the base, hidden from every view.
pub const STORE_DIR: &str = ".branchfs";

const _: () = assert!(BRANCH_NAME_MAX <= NAME_MAX, "a branch name is a directory name in the mount");
const _: () = assert!(XATTRS_SIZE_MAX >= XATTR_SIZE_MAX + NAME_MAX, "a single attribute always has room");
const _: () = assert!(DEPTH_MAX >= 1000, "promised in S4");

/// Index of a branch; never reused within a store. The high 32 bits of its inode numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BranchId(pub u32);

impl BranchId {
    /// The root branch.
    pub const MAIN: BranchId = BranchId(0);
}

impl fmt::Display for BranchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Identity of a file, directory or link: the low 32 bits of its inode number, the same in every branch
/// that shares it. Objects of the base keep the low bits of the host's inode number where they can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The root directory of every branch. Host filesystems do not hand out inode 1.
    pub const ROOT: NodeId = NodeId(1);
    /// First id given to objects that have no host inode number of their own: the upper quarter, so that
    /// ordinary host numbers never meet it.
    pub(crate) const FIRST_ALLOCATED: u32 = 0xC000_0000;
}

/// A generation of content files: a branch writes in place only in its current layer (I-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LayerId(pub u64);

/// Number of a commit into the base, from 1; as an epoch, "the base as it was after this commit".
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommitId(pub u64);

/// Siblings made by one fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(pub u64);

/// How much a branch may hold of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quota {
    /// As much as there is.
    Unlimited,
    /// So many bytes, as the host allocates them.
    Bytes(u64),
}

/// How the siblings made by one fork relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GroupKind {
    /// The first commit makes the other siblings stale (S12).
    Exclusive,
    /// Siblings live on after a commit (S14).
    Independent,
    /// Exclusive, and the parent is read-only until the group has ended (S2).
    Frozen,
}

/// One file name: any bytes but `/` and NUL, 1..=255 of them. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name(#[serde(with = "name_bytes")] Arc<[u8]>);

impl Name {
    /// Checks nothing: for names that came from the host's own directories or from a checked one.
    pub(crate) fn trusted(bytes: &[u8]) -> Name {
        debug_assert!(Name::is_valid(bytes));
        Name(Arc::from(bytes))
    }

    /// Whether the bytes can be a directory entry.
    pub fn is_valid(bytes: &[u8]) -> bool {
        !bytes.is_empty()
            && bytes.len() <= NAME_MAX
            && bytes != b"."
            && bytes != b".."
            && !bytes.contains(&b'/')
            && !bytes.contains(&0)
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

mod name_bytes {
    use std::sync::Arc;

    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Arc<[u8]>, s: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(&bytes[..], s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Arc<[u8]>, D::Error> {
        let bytes: Vec<u8> = serde_bytes::deserialize(d)?;
        if !super::Name::is_valid(&bytes) {
            return Err(serde::de::Error::custom("not a file name"));
        }
        Ok(Arc::from(bytes))
    }
}

/// Checks a branch name against S5.
///
/// # Errors
/// The reason, saying what would be right.
pub fn check_branch_name(name: &str) -> Result<(), &'static str> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > BRANCH_NAME_MAX {
        return Err("a name has 1 to 255 bytes");
    }
    if bytes[0] == b'.' || bytes[0] == b'-' {
        return Err("a name does not start with '.' or '-'");
    }
    if !bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Err("a name has only letters, digits, '.', '_' and '-'");
    }
    if name == MAIN {
        return Err("'main' is the base itself");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_names_follow_s5() {
        for good in ["a", "fix-1", "A.b_c", &"x".repeat(255)] {
            assert_eq!(check_branch_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "a b", "ä", "main", "@a", &"x".repeat(256)] {
            assert!(check_branch_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_any_bytes_but_slash_and_nul() {
        for good in [&b"a"[..], b"\xff\n", b".wh.x", b"@types", b"...", &[b'x'; 255]] {
            assert!(Name::is_valid(good));
        }
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
            assert!(!Name::is_valid(bad));
        }
    }
}
