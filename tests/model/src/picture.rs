//! What can be seen of a tree.

use std::collections::BTreeMap;

use crate::call::Path;
use crate::when::Time;

/// Everything below a root, the root included, by path.
pub type Picture = BTreeMap<Path, Seen>;

/// What an object is, with what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// A file and its bytes.
    File(Vec<u8>),
    /// A directory.
    Dir,
    /// A link and its target.
    Symlink(Vec<u8>),
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    Char,
    /// A block device.
    Block,
}

/// Everything that can be asked of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it is.
    pub thing: Thing,
    /// Inode number, unique in its branch.
    pub ino: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links.
    pub nlink: u32,
    /// Device number, as `major << 32 | minor`.
    pub rdev: u64,
    /// Size as told by stat.
    pub size: u64,
    /// Last access.
    pub atime: Time,
    /// Last modification.
    pub mtime: Time,
    /// Last change.
    pub ctime: Time,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}
