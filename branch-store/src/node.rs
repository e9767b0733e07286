//! Nodes: the objects a branch has of its own, and the attributes every object has.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use rustix::fs::{FileType, Statx};
use serde::{Deserialize, Serialize};

use crate::ids::{CommitId, LayerId, Name, NodeId};

/// A point in time: seconds and nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Time {
    /// Seconds; negative before 1970.
    pub sec: i64,
    /// Nanoseconds, 0..1_000_000_000.
    pub nsec: u32,
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link.
    Symlink,
    /// FIFO.
    Fifo,
    /// Socket.
    Socket,
    /// Character device.
    Char,
    /// Block device.
    Block,
}

impl Kind {
    /// From the file type bits of a mode; `None` for bits that name no type.
    pub fn of_mode(mode: u32) -> Option<Kind> {
        Some(match FileType::from_raw_mode(mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice => Kind::Char,
            FileType::BlockDevice => Kind::Block,
            FileType::Unknown => return None,
        })
    }

    /// The host's word for it.
    pub fn file_type(self) -> FileType {
        match self {
            Kind::File => FileType::RegularFile,
            Kind::Dir => FileType::Directory,
            Kind::Symlink => FileType::Symlink,
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
            Kind::Char => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
        }
    }
}

/// Extended attributes: name → value. Shared, because most objects have none or the same.
pub(crate) type Xattrs = Arc<BTreeMap<Vec<u8>, Vec<u8>>>;

/// Attributes a node carries itself. Size, blocks and (while `mtime` is `None`) modification time come
/// from the content file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Permission bits, `07777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links (for directories 2 + subdirectories, or 1 where the base filesystem counts none).
    pub nlink: u32,
    /// Device number of a device node, else 0.
    pub rdev: u64,
    /// Last access, as last set; reads do not update it.
    pub atime: Time,
    /// Last modification; `None` while the content file of the branch's own layer knows it.
    pub mtime: Option<Time>,
    /// Last change of the node.
    pub ctime: Time,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// The attributes that a merge takes one by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attributes {
    /// Permission bits, `07777`.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Extended attributes.
    pub(crate) xattrs: Xattrs,
    /// Last access.
    pub(crate) atime: Time,
    /// Last modification.
    pub(crate) mtime: Option<Time>,
}

impl Meta {
    pub(crate) fn attributes(&self) -> Attributes {
        let Meta { mode, uid, gid, atime, mtime, .. } = *self;
        Attributes { mode, uid, gid, xattrs: self.xattrs.clone(), atime, mtime }
    }

    pub(crate) fn set_attributes(&mut self, new: Attributes) {
        let Attributes { mode, uid, gid, xattrs, atime, mtime } = new;
        *self = Meta { mode, uid, gid, xattrs, atime, mtime, ..*self };
    }
}

/// Identity and state of a base object as a branch first met it (S15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    /// Host inode number.
    pub ino: u64,
    /// The filesystem it is on, as [`Home`] numbers it.
    pub dev: u64,
    /// Birth time where the host knows one: tells a reused inode number from the old object.
    pub birth: Time,
    /// Kind of the object.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes; 0 for directories, whose own numbers say nothing.
    pub size: u64,
    /// Modification time; zero for directories.
    pub mtime: Time,
    /// Change time; zero for directories.
    pub ctime: Time,
}

impl Fingerprint {
    /// Whether both name the same host object, whatever happened to it.
    pub(crate) fn same_object(&self, other: &Fingerprint) -> bool {
        (self.ino, self.dev, self.birth, self.kind) == (other.ino, other.dev, other.birth, other.kind)
    }

    /// Whether the object is still as it was here. Of a directory only the identity: its own numbers say nothing.
    pub(crate) fn is_unedited(&self, now: &Fingerprint) -> bool {
        self.same_object(now) && (self.kind == Kind::Dir || self == now)
    }

    /// The identity alone.
    pub(crate) fn key(&self) -> HostKey {
        HostKey { dev: self.dev, ino: self.ino }
    }
}

/// A host object for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct HostKey {
    /// The filesystem it is on, as [`Home`] numbers it.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// A name in a directory of the base. The directory is named by its id, so it can move without this.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// The base directory.
    pub dir: NodeId,
    /// The entry in it.
    pub name: Name,
}

/// A base object that a commit moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DisplacedTo {
    /// The object.
    pub(crate) key: HostKey,
    /// Where it is now.
    pub(crate) to: Slot,
    /// The place in a preimage directory that it left for there.
    pub(crate) left: Option<Slot>,
}

/// Where a node came from: copy-up's origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The base object, as it was.
    pub(crate) print: Fingerprint,
    /// A name it had; `None` for the root.
    pub(crate) slot: Option<Slot>,
    /// A directory's attributes, as the branch saw them: what it leaves alone stays as the base has it at the
    /// commit. `None` for what is no directory: there the change time tells.
    pub(crate) attributes: Option<Attributes>,
}

/// Where a file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Content {
    /// In the base, seen at the branch's epoch.
    Base(Slot),
    /// In `content/<layer>/<node id>` of the store.
    Own(LayerId),
}

/// Where a content file finds the bytes that it has not got: holes before `borrowed` mean those of this file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lender {
    /// The file of the base, as of `epoch`.
    pub(crate) slot: Slot,
    /// The commit that the branch saw the base at.
    pub(crate) epoch: CommitId,
    /// The base's file when the copy was made.
    pub(crate) print: Fingerprint,
    /// Inode number and birth time of the content file: in a copy of the store nobody knows what became of its holes.
    pub(crate) holder: (u64, Time),
    /// Size of the base's file then, in bytes.
    pub(crate) borrowed: u64,
}

/// What a directory entry of a tree says about a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The node; `None` is a whiteout: the base has the name, the branch has not.
    pub child: Option<NodeId>,
    /// What the base had under this name when the branch first changed it; `None`: nothing.
    pub over: Option<Arc<Fingerprint>>,
}

/// A node without its entries: what the journal records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inode {
    /// Attributes.
    pub meta: Meta,
    /// The base object it was adopted from, if any.
    pub(crate) origin: Option<Arc<Origin>>,
    /// What it is.
    pub body: Body,
}

/// The part of a node that depends on its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Body {
    /// Regular file.
    File(Content),
    /// Directory; `lower` says whether the base directory of the same id shows through.
    Dir {
        /// The directory it lies in; the root lies in itself.
        parent: NodeId,
        /// Merged with the base directory of the same id, or opaque.
        lower: Lower,
    },
    /// Symbolic link and its target.
    Symlink(#[serde(with = "serde_bytes")] Vec<u8>),
    /// FIFO, socket or device node.
    Special(Kind),
}

/// Whether a directory node has a base directory below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Lower {
    /// The base directory with the same id shows through.
    Merged,
    /// Nothing shows through.
    Opaque,
}

/// A node in memory: the inode and, for directories, its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) inode: Inode,
    pub(crate) entries: OrdMap<Name, Entry>,
}

impl Node {
    /// A base directory that the branch removed. Its node stays: what a commit takes away must be what was
    /// removed here, and its entries say what that was.
    pub(crate) fn is_grave(&self) -> bool {
        self.inode.meta.nlink == 0 && self.inode.kind() == Kind::Dir && self.inode.origin.is_some()
    }

    /// What lost its last name and lives for those who have it open.
    pub(crate) fn is_nameless(&self) -> bool {
        self.inode.meta.nlink == 0 && !self.is_grave()
    }
}

impl Inode {
    /// It has lost its last name and lives for those who have it open: of a directory nothing of the base shows.
    pub(crate) fn lose_names(&mut self) {
        self.meta.nlink = 0;
        if let Body::Dir { lower, .. } = &mut self.body {
            *lower = Lower::Opaque;
        }
    }

    /// What the node is.
    pub(crate) fn kind(&self) -> Kind {
        match &self.body {
            Body::File(_) => Kind::File,
            Body::Dir { .. } => Kind::Dir,
            Body::Symlink(_) => Kind::Symlink,
            Body::Special(kind) => *kind,
        }
    }
}

/// Attributes of an object, as `stat(2)` wants them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Identity; the low half of the inode number.
    pub id: NodeId,
    /// Tells objects apart that got the same id one after the other.
    pub generation: u32,
    /// Whether only this branch can change it. Base objects can also be edited from outside (S15).
    pub owner: Owner,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, `07777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links.
    pub nlink: u32,
    /// Device number of a device node.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Time,
    /// Last modification.
    pub mtime: Time,
    /// Last change.
    pub ctime: Time,
}

/// Who can change an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Only the branch: caches may keep it for ever.
    Branch,
    /// The base, which others may edit (S15). It is there under the very name it was found by, and under no other:
    /// whoever watches that directory hears of it.
    Base,
    /// The base, too, but it has other names, or a commit has moved or changed it since, or only its bytes are the
    /// base's: caches must ask again.
    Elsewhere,
}

/// An object of a branch: its id and, while it has no node of its own, the base name it was found under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Object {
    /// Identity.
    pub id: NodeId,
    /// Where the base has it; ignored once the branch has a node of this id.
    pub slot: Option<Slot>,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Name.
    pub name: Name,
    /// Object behind it.
    pub object: Object,
    /// What it is.
    pub kind: Kind,
}

pub(crate) fn time_of(t: &rustix::fs::StatxTimestamp) -> Time {
    Time { sec: t.tv_sec, nsec: t.tv_nsec }
}

pub(crate) fn device(major: u32, minor: u32) -> u64 {
    u64::from(major) << 32 | u64::from(minor)
}

/// The filesystem of the base. It is 0 in what the journal keeps, whatever the host numbers it until it is next
/// mounted; others, mounted below it, have the host's number, `major << 32 | minor`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home(u64);

impl Home {
    pub(crate) fn of(base: &Statx) -> Home {
        Home(device(base.stx_dev_major, base.stx_dev_minor))
    }

    /// The fingerprint of a host object; `None` for a type Linux does not have.
    pub(crate) fn print(self, st: &Statx) -> Option<Fingerprint> {
        let mode = u32::from(st.stx_mode);
        let kind = Kind::of_mode(mode)?;
        let dir = kind == Kind::Dir;
        let dev = device(st.stx_dev_major, st.stx_dev_minor);
        Some(Fingerprint {
            ino: st.stx_ino,
            dev: if dev == self.0 { 0 } else { dev },
            birth: time_of(&st.stx_btime),
            kind,
            mode: mode & 0o7777,
            uid: st.stx_uid,
            gid: st.stx_gid,
            size: if dir { 0 } else { st.stx_size },
            mtime: if dir { Time::default() } else { time_of(&st.stx_mtime) },
            ctime: if dir { Time::default() } else { time_of(&st.stx_ctime) },
        })
    }
}

/// A file's generation number, from its birth time: the same before and after copy-up.
pub(crate) fn generation(birth: Time) -> u32 {
    (birth.sec as u32).rotate_left(7) ^ birth.nsec
}
