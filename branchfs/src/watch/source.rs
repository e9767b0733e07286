//! Where news of the base come from: one way to hear of directories, two implementations.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::fstatfs;

use super::fanotify::Fanotify;
use super::inotify::Inotify;

/// How the base is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// fanotify(7) with directory handles and names: it also tells which process it was.
    Fanotify,
    /// inotify(7).
    Inotify,
    /// Not at all: everything of the base is asked for again after a second.
    Not,
}

/// Which way is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// The best that this kernel and user have.
    #[default]
    Best,
    /// This one; where it is not to be had, none.
    Only(How),
}

/// What a source calls a directory: the bytes of its file handle, or of its watch number.
pub(super) type Mark = Box<[u8]>;

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct News<'a> {
    pub(super) mark: &'a [u8],
    pub(super) what: What<'a>,
    pub(super) by: By,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What<'a> {
    /// A name in the directory has another meaning, or none.
    Name(&'a [u8]),
    /// The object of this name changed.
    Object(&'a [u8]),
    /// The directory itself changed.
    Itself,
    /// The directory is no longer watched.
    Over,
    /// Nobody knows: there was more than the queue holds.
    Lost,
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// This process: a commit.
    Us,
    /// Another, or a source that does not tell.
    Others,
}

/// A queue of news and the directories it is about.
pub(super) trait Source: Send + Sync {
    fn how(&self) -> How;

    /// Begins to watch the directory. Of one that is watched already, its mark.
    fn add(&self, dir: BorrowedFd<'_>) -> io::Result<Mark>;

    /// Watches the directory no longer. Some can do so only while it can be opened.
    fn remove(&self, mark: &[u8], dir: Option<Arc<OwnedFd>>) -> io::Result<()>;

    /// Hands over what waits, up to one buffer of it; whether there was anything.
    fn read(&self, each: &mut dyn FnMut(News<'_>)) -> io::Result<bool>;

    /// Becomes readable when something waits.
    fn queue(&self) -> BorrowedFd<'_>;
}

/// The source for the wish; `None`: nothing is watched.
pub(super) fn open(wish: Wish) -> Option<Box<dyn Source>> {
    let order: &[How] = match &wish {
        Wish::Best => &[How::Fanotify, How::Inotify],
        Wish::Only(how) => std::slice::from_ref(how),
    };
    order.iter().find_map(|how| {
        let opened: io::Result<Box<dyn Source>> = match how {
            How::Fanotify => Fanotify::new().map(|source| Box::new(source) as Box<dyn Source>),
            How::Inotify => Inotify::new().map(|source| Box::new(source) as Box<dyn Source>),
            How::Not => return None,
        };
        opened.inspect_err(|error| tracing::warn!("the base cannot be watched by {how:?}: {error}")).ok()
    })
}

/// Filesystems whose every change is made by this kernel, which hears of it. On all others (network filesystems, FUSE)
/// somebody else may change what nobody here hears of. Magic numbers are from statfs(2) and linux/magic.h.
const HEARD: [u64; 18] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0xf2f5_2010, // f2fs
    0x794c_7630, // overlayfs
    0x2fc1_2fc1, // zfs
    0xca45_1a4e, // bcachefs
    0x4d44,      // msdos, vfat
    0x2011_bab0, // exfat
    0x7366_746e, // ntfs3
    0x3153_464a, // jfs
    0x3434,      // nilfs2
    0x2405_1905, // ubifs
    0x7371_7368, // squashfs
    0x9660,      // iso9660
    0xe0f5_e1e2, // erofs
];

/// Whether this kernel hears of all changes in the directory.
///
/// # Errors
/// The host's; `Unsupported` where it does not.
pub(super) fn check_heard(dir: impl AsFd) -> io::Result<()> {
    let kind = fstatfs(dir)?.f_type as u64 & 0xffff_ffff;
    if HEARD.contains(&kind) {
        return Ok(());
    }
    let why = format!("a filesystem of type {kind:#x} may be changed by others than this kernel");
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}
